"""What a student begins from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lexiseg.errors import UnknownModel, UsageError
from lexiseg.training.students.labels import LabelSet, read_true_masks
from lexiseg.training.students.network import build_network
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.start import begin, drawn_back, read_start, share_of_start
from lexiseg.training.students.student import load_student
from lexiseg.training.students.train import train

SHAPE = {"widths": (8, 16, 32), "residual_units": 1}


@pytest.fixture
def labels(discs: Path) -> LabelSet:
    return read_true_masks(discs / "manifest.csv", ["disc"])


class TestBundled:
    def test_knows_a_fetal_head_it_has_not_seen(self) -> None:
        from lexiseg.datasets.phantoms.registry import generate
        from lexiseg.training.students.frame import normalise

        start = read_start("bundled")
        assert start is not None
        network = build_network(channels=1, classes=2, widths=TrainSettings().widths, residual_units=2)
        begin(network, start)
        phantom = generate("fetal-ultrasound", 900_001, size=192, target=True)
        image = normalise(torch.from_numpy(phantom.scan.pixels)[None, None])
        with torch.no_grad():
            found = network.eval()(image)[0].argmax(0).numpy() == 1
        assert 2 * (found & phantom.target).sum() / (found.sum() + phantom.target.sum()) > 0.8

    def test_is_the_default_and_fits_the_default_network(self) -> None:
        settings = TrainSettings()
        assert settings.start == "bundled"
        start = read_start(settings.start)
        network = build_network(channels=1, classes=2, widths=settings.widths, residual_units=settings.residual_units)
        assert start is not None
        assert start.record["licence"] == "LicenseRef-research-use"
        assert {n: tuple(v.shape) for n, v in start.tensors.items()} == {
            n: tuple(v.shape) for n, v in network.state_dict().items()
        }


class TestBegin:
    def test_a_colour_network_answers_a_grey_image_alike(self, trained: Path) -> None:
        start = read_start(str(trained))
        grey, colour = (build_network(channels=c, classes=2, **SHAPE).eval().double() for c in (1, 3))
        assert start is not None
        begin(grey, start)
        begin(colour, start)
        image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            # A third of a float32 weight is rounded by 6e-8 of it, which norms and layers make tenfold at most;
            # logits are about 10.
            assert torch.allclose(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=0, atol=1e-5)

    def test_more_targets_keep_what_fits(self, trained: Path) -> None:
        start = read_start(str(trained))
        network = build_network(channels=1, classes=4, **SHAPE)
        assert start is not None
        begin(network, start)
        own = network.state_dict()
        same = [n for n, v in start.tensors.items() if v.shape == own[n].shape]
        assert len(same) < len(own)
        assert all(torch.equal(own[n], start.tensors[n]) for n in same)

    def test_other_widths_are_one_line(self, trained: Path) -> None:
        start = read_start(str(trained))
        assert start is not None
        with pytest.raises(UsageError, match=r"other widths.*--start none"):
            begin(build_network(channels=1, classes=2, widths=(4, 8, 16), residual_units=1), start)
        with pytest.raises(UsageError, match="other widths"):
            begin(build_network(channels=1, classes=2, widths=(8, 16, 32), residual_units=2), start)

    def test_none_is_nothing_and_another_folder_no_student(self, tmp_path: Path) -> None:
        assert read_start("none") is None
        with pytest.raises(UnknownModel, match="lexiseg train"):
            read_start(str(tmp_path))


class TestShare:
    def test_what_agrees_stays(self) -> None:
        assert share_of_start(1.0, 1000) == 1

    def test_ten_scans_worth_against_it_weigh_as_much_as_it(self) -> None:
        assert share_of_start(0.0, 10) == share_of_start(0.9, 100) == pytest.approx(0.5)

    def test_more_scans_outweigh_it(self) -> None:
        assert share_of_start(0.7, 100) == pytest.approx(0.25)
        assert share_of_start(0.0, 990) == pytest.approx(0.01)

    def test_a_start_that_draws_the_labels_keeps_more_than_one_that_does_not(
        self, trained: Path, labels: LabelSet, tiny: TrainSettings, tmp_path: Path
    ) -> None:
        """A student of discs knows discs, the bundled U-Net does not."""
        shares = {}
        for name, start in (("discs", str(trained)), ("bundled", "bundled")):
            shape = {} if start == str(trained) else {"widths": TrainSettings().widths, "residual_units": 2}
            settings = replace(tiny, start=start, steps=2, checks=1, robust=(), **shape)
            config = train(labels, tmp_path / name, settings, device="cpu").config
            shares[name] = float(config.start["share"])
            assert (
                f"its share in these weights is {config.start['share']}" in (tmp_path / name / "README.md").read_text()
            )
        assert 0 < shares["bundled"] < shares["discs"] - 0.05 < 1


class TestDrawnBack:
    def test_the_share_is_of_the_start(self) -> None:
        network = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(network.weight, 4.0)
        begun = {"weight": torch.ones(1, 2)}
        for share, expected in ((0.0, 4.0), (0.25, 3.25), (1.0, 1.0)):
            found = drawn_back(network, begun, share)
            assert torch.allclose(found["weight"], torch.full((1, 2), expected))
            assert torch.equal(found["bias"], network.bias.detach())  # it did not begin from anything
        assert float(network.weight.detach().mean()) == 4.0


class TestTraining:
    def test_drawn_back_all_the_way_is_the_start(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        settings = replace(tiny, start=str(trained), anchor=1.0, steps=4, checks=2, robust=())
        train(labels, tmp_path / "m", settings, device="cpu")
        before, after = (load_file(place / "model.safetensors") for place in (trained, tmp_path / "m"))
        assert after and all(torch.allclose(value, before[name]) for name, value in after.items())

    def test_begins_where_the_other_ended(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        settings = replace(tiny, start=str(trained), steps=1, checks=1, rate=1e-8, robust=())
        report = train(labels, tmp_path / "m", settings, device="cpu")
        before, after = (load_file(place / "model.safetensors") for place in (trained, tmp_path / "m"))
        assert all(torch.allclose(after[name], before[name], atol=1e-4) for name in after)
        assert report.config.start["name"] == str(trained)
        assert load_student(tmp_path / "m", device="cpu").config.start == report.config.start
        assert "began from another student" in (tmp_path / "m" / "README.md").read_text()

    def test_a_changed_start_is_another_training(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "start"
        short = replace(tiny, steps=2, checks=2)
        train(labels, folder, short, device="cpu")
        settings = replace(tiny, start=str(folder), steps=8, checks=8)

        def stop(progress: object) -> None:
            if (tmp_path / "m" / "checkpoint.pt").exists():
                raise InterruptedError

        with pytest.raises(InterruptedError):
            train(labels, tmp_path / "m", settings, device="cpu", progress=stop)
        for path in folder.iterdir():
            path.unlink()
        train(labels, folder, replace(short, seed=1), device="cpu")
        with pytest.raises(UsageError, match="begun with other start; resume"):
            train(labels, tmp_path / "m", settings, device="cpu", resume=True)

    def test_of_two_networks_one_begins_from_it(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        settings = replace(tiny, start=str(trained), steps=1, checks=1, rate=1e-8, robust=("co-teaching",))
        train(labels, tmp_path / "m", settings, device="cpu")
        found = load_file(tmp_path / "m" / "model.safetensors")
        names = [name.removeprefix("0.") for name in found if name.startswith("0.")]
        before = load_file(trained / "model.safetensors")
        assert all(torch.allclose(found[f"0.{n}"], before[f"0.{n}"], atol=1e-4) for n in names)
        assert any(not torch.equal(found[f"0.{n}"], found[f"1.{n}"]) for n in names)

"""Whole runs with small towers: learning, resuming bit for bit, stopping, failing well."""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lexiseg.datasets.pairs.pairs import PairSet
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.errors import BadManifest, TrainingDiverged, UnwritableResult, UsageError
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.status import check_model
from lexiseg.runs.folder import only_run
from lexiseg.training.finetuning.finetune import finetune
from lexiseg.training.finetuning.settings import FinetuneSettings

pytest.importorskip("lightning", reason="fine-tuning needs lightning: pip install 'lexiseg[train]'")

QUICK = FinetuneSettings(
    epochs=3, batch=8, learning_rate=1e-3, temperature=0.1, precision="float32", patience=0, augment=False,
    validation=0.3,
)  # fmt: skip


def changed(**changes: Any) -> FinetuneSettings:
    return FinetuneSettings(**{**QUICK.as_dict(), **changes})


def run(pairs: Path, out: Path, tower: Path, settings: FinetuneSettings = QUICK, **more: Any) -> Any:
    return finetune(pairs, out, encoder=str(tower), settings=settings, device="cpu", **more)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


class Killed(Exception):
    """Stands for a kill."""


def killed_at(step: int) -> Any:
    def progress(told: Any) -> None:
        if told.stage == "training" and told.done == step:
            raise Killed

    return progress


@pytest.fixture(scope="module")
def whole(pairs_csv: Path, tower: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One unbroken run."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, run(pairs_csv, out, tower, changed(augment=True))


class TestRun:
    def test_it_learns(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        report = run(pairs_csv, tmp_path / "out", tower, changed(epochs=12))
        losses = [row["loss"] for row in report.history[1:]]
        assert losses[-1] < losses[0] - 0.5
        best = max(report.history[1:], key=lambda row: row["top-1"])
        assert report.best_epoch == best["epoch"]

    def test_what_is_written(self, whole: tuple[Path, Any]) -> None:
        out, report = whole
        logs = out / "training"
        assert len(table(logs / "steps.csv")) == 3 * (report.train // 8)
        assert [row["epoch"] for row in table(logs / "epochs.csv")] == ["0", "1", "2", "3"]
        assert (logs / "curves.png").read_bytes().startswith(b"\x89PNG")
        record = json.loads((logs / "run.json").read_text())
        assert record["settings"]["loss"] == "dhn-nce"
        assert record["train_pairs"] + record["validation_pairs"] == 24
        assert not list(out.glob(".*"))

    def test_the_result_is_an_encoder_like_any_other(self, whole: tuple[Path, Any], tower: Path) -> None:
        out, _ = whole
        assert check_model(str(out)).ok
        encoder, before = load_encoder(str(out), device="cpu"), load_encoder(str(tower), device="cpu")
        phrases = ["a bright square", "upper left"]
        assert encoder.encode_text(phrases).shape == (2, 32)
        assert not torch.allclose(encoder.encode_text(phrases), before.encode_text(phrases), atol=1e-3)

    @pytest.mark.fullsize
    def test_the_bundled_encoder_can_be_trained_and_segments_afterwards(self, pairs_csv: Path, tmp_path: Path) -> None:
        import lexiseg

        out = tmp_path / "out"
        few = PairSet(read_pairs(pairs_csv).pairs[:6], ())  # three of two patients each train and validate
        report = finetune(few, out, device="cpu", settings=changed(epochs=1, batch=2, validation=0.5))
        assert report.train >= 2 and len(report.history) == 2
        segment = lexiseg.load("demo", device="cpu", encoder=str(out))
        scan = lexiseg.read_scan(pairs_csv.parent / "0.png")
        assert segment(scan, "breast tumor")["breast tumor"].mask.shape == (64, 64)


class TestResume:
    def test_a_killed_run_goes_on_bit_for_bit(
        self, whole: tuple[Path, Any], pairs_csv: Path, tower: Path, tmp_path: Path
    ) -> None:
        reference, report = whole
        settings = changed(augment=True)
        out = tmp_path / "out"
        per_epoch = report.train // 8
        for step in (per_epoch + 1, 2 * per_epoch + 1):  # within the second and the third epoch
            with pytest.raises(Killed):
                run(pairs_csv, out, tower, settings, resume=True, progress=killed_at(step))
        torn = out / "training" / ".0123456789abcdef.tmp", out / ".export-abcdefgh"
        torn[0].touch()
        torn[1].mkdir()
        again = run(pairs_csv, out, tower, settings, resume=True)
        assert not any(each.exists() for each in torn)
        for name in ("open_clip_model.safetensors", "training/steps.csv"):
            assert (out / name).read_bytes() == (reference / name).read_bytes()
        first, second = (torch.load(each / "training/last.pt", weights_only=True) for each in (reference, out))
        for name, tensor in first["towers"].items():
            assert torch.equal(tensor, second["towers"][name])
        without = [{**row, "seconds": 0, "loss": repr(row["loss"])} for row in report.history]
        assert [{**row, "seconds": 0, "loss": repr(row["loss"])} for row in again.history] == without

    def test_a_finished_run_does_nothing_more(self, whole: tuple[Path, Any], pairs_csv: Path, tower: Path) -> None:
        out, report = whole
        before = (out / "open_clip_model.safetensors").read_bytes()
        again = run(pairs_csv, out, tower, changed(augment=True), resume=True)
        assert len(again.history) == len(report.history)
        assert (out / "open_clip_model.safetensors").read_bytes() == before

    def test_a_folder_that_holds_a_run_is_not_overwritten(
        self, whole: tuple[Path, Any], pairs_csv: Path, tower: Path
    ) -> None:
        with pytest.raises(UsageError, match="--resume"):
            run(pairs_csv, whole[0], tower)

    def test_other_settings_are_another_run(self, whole: tuple[Path, Any], pairs_csv: Path, tower: Path) -> None:
        with pytest.raises(UsageError, match=r"begun with beta1=0\.15 \(now 0\.5\); resume"):
            run(pairs_csv, whole[0], tower, changed(augment=True, beta1=0.5), resume=True)

    def test_images_that_changed_are_another_run(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        for file in pairs_csv.parent.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        settings = changed(epochs=1)
        run(tmp_path / pairs_csv.name, tmp_path / "out", tower, settings)
        (tmp_path / "3.png").write_bytes((tmp_path / "4.png").read_bytes())
        with pytest.raises(UsageError, match="pairs"):
            run(tmp_path / pairs_csv.name, tmp_path / "out", tower, changed(epochs=2), resume=True)

    def test_a_folder_with_another_model_is_not_overwritten(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        copied = shutil.copytree(tower, tmp_path / "model")
        before = (copied / "open_clip_model.safetensors").read_bytes()
        with pytest.raises(UsageError, match="model of another making"):
            run(pairs_csv, copied, copied)
        assert (copied / "open_clip_model.safetensors").read_bytes() == before
        with pytest.raises(UsageError, match="it is a file"):
            run(pairs_csv, copied / "open_clip_config.json", tower)

    def test_two_at_once_are_refused(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        with only_run(tmp_path), pytest.raises(UsageError, match="another run is writing"):
            run(pairs_csv, tmp_path, tower)

    def test_a_broken_checkpoint(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        (tmp_path / "training").mkdir()
        (tmp_path / "training" / "last.pt").write_bytes(b"PK torn")
        with pytest.raises(UsageError, match="no checkpoint that can be read"):
            run(pairs_csv, tmp_path, tower, resume=True)


class TestStopping:
    def test_patience(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        settings = changed(epochs=9, patience=1, learning_rate=1e-12)
        report = run(pairs_csv, tmp_path / "out", tower, settings)
        assert report.stopped_early
        assert len(report.history) == 3
        again = run(pairs_csv, tmp_path / "out", tower, settings, resume=True)
        assert len(again.history) == 3

    def test_nan_stops_and_keeps_the_last_good_checkpoint(
        self, pairs_csv: Path, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lexiseg.training.finetuning import trainer

        real, seen = trainer.accumulate_gradient, []

        def poisoned(fabric: Any, towers: Any, batch: Any, settings: Any) -> Any:
            seen.append(batch.step)
            return real(fabric, towers, batch, settings) * (math.nan if len(seen) == 4 else 1)

        monkeypatch.setattr(trainer, "accumulate_gradient", poisoned)
        out = tmp_path / "out"
        with pytest.raises(TrainingDiverged, match=r"loss is nan at step 4: .*last\.pt .*after epoch 1") as raised:
            run(pairs_csv, out, tower)
        assert "\n" not in str(raised.value)
        assert torch.load(out / "training" / "last.pt", weights_only=True)["state"]["epoch"] == 1
        assert load_encoder(str(out), device="cpu").encode_text(["square"]).isfinite().all()

    def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
        self, pairs_csv: Path, tower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lexiseg.training.finetuning import trainer

        real = trainer.accumulate_gradient

        def poisoned(fabric: Any, towers: Any, batch: Any, settings: Any) -> Any:
            loss = real(fabric, towers, batch, settings)
            next(each for each in towers.parameters() if each.grad is not None).grad.fill_(math.inf)
            return loss

        monkeypatch.setattr(trainer, "accumulate_gradient", poisoned)
        with pytest.raises(TrainingDiverged, match=r"gradient is .* at step 1: .*no epoch was finished"):
            run(pairs_csv, tmp_path / "out", tower)


class TestFullDisk:
    @pytest.fixture
    def little_room(self) -> Any:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        def limit(size: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

        yield limit
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    @pytest.mark.parametrize("room", [10_000, 8_000_000])
    def test_nothing_truncated_is_left(
        self, pairs_csv: Path, tower: Path, tmp_path: Path, little_room: Any, room: int
    ) -> None:
        """Room for the log alone, then for the encoder but not for the checkpoint, three times as large."""
        out = tmp_path / "out"
        little_room(room)
        with pytest.raises(UnwritableResult, match="could not be written"):
            run(pairs_csv, out, tower)
        little_room(resource.RLIM_INFINITY)
        assert not (out / "training" / "last.pt").exists()
        assert not list(out.rglob(".*"))
        if room > 10_000:
            load_file(out / "open_clip_model.safetensors")
            assert check_model(str(out)).ok
        assert len(run(pairs_csv, out, tower, resume=True).history) == 4

    def test_the_checkpoint_before_is_kept(
        self, pairs_csv: Path, tower: Path, tmp_path: Path, little_room: Any
    ) -> None:
        out = tmp_path / "out"

        def fills_up(told: Any) -> None:
            if told.epoch == 2 and told.stage == "training":
                little_room(8_000_000)

        with pytest.raises(UnwritableResult):
            run(pairs_csv, out, tower, progress=fills_up)
        little_room(resource.RLIM_INFINITY)
        assert torch.load(out / "training" / "last.pt", weights_only=True)["state"]["epoch"] == 1


class TestBadInput:
    def test_images_that_cannot_be_read_are_left_out(
        self, pairs_csv: Path, tower: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "pairs"
        folder.mkdir()
        for path in pairs_csv.parent.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
        (folder / "5.png").unlink()
        report = run(folder / "pairs.csv", tmp_path / "out", tower, changed(epochs=1))
        assert report.skipped == 2
        assert report.train + report.validation == 22
        assert "3.png is left out" in caplog.text

    def test_captions_that_are_too_short(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        with pytest.raises(BadManifest, match="expected at least 400"):
            run(pairs_csv, tmp_path, tower, changed(min_caption=400))

    def test_half_precision_that_the_device_lacks(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="needs a CUDA device"):
            run(pairs_csv, tmp_path, tower, changed(precision="float16"))

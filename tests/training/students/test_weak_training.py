from __future__ import annotations

import csv
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discs import disc
from safetensors.torch import load_file

from lexiseg.errors import TrainingDiverged, UnwritableResult, UsageError
from lexiseg.training.students.labels import LabelSet, read_true_masks
from lexiseg.training.students.network import scan_losses
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.student import load_student
from lexiseg.training.students.train import TrainProgress, train


class Killed(Exception):
    pass


def killer(at: int) -> object:
    def tell(progress: TrainProgress) -> None:
        if progress.stage == "training" and progress.done == at:
            raise Killed

    return tell


@pytest.fixture(scope="module")
def labels(discs: Path) -> LabelSet:
    return read_true_masks(discs / "manifest.csv", ["disc"])


class TestLoss:
    def test_mean_over_scans_is_monais_loss_of_the_batch(self) -> None:
        from monai.losses import DiceCELoss

        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(3, 2, 16, 16, generator=generator)
        labels = torch.randint(0, 2, (3, 16, 16), generator=generator)
        reference = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)
        # Sums of 768 float32 in another order differ by sqrt(768) 6e-8 = 2e-6 of their size.
        assert scan_losses()(logits, labels).mean().item() == pytest.approx(
            reference(logits, labels[:, None]).item(), rel=1e-5
        )


class TestTraining:
    def test_learns_discs_that_it_has_not_seen(self, trained: Path) -> None:
        student = load_student(trained, device="cpu")
        scores = []
        for seed in range(100, 106):
            grey, mask = disc(seed)
            found = student.predict(grey.astype(np.float32) / 255).probabilities.argmax(0) == 1
            scores.append(2 * (found & mask).sum() / (found.sum() + mask.sum()))
        assert np.mean(scores) > 0.8

    def test_the_folder_says_what_it_is(self, trained: Path) -> None:
        names = {path.name for path in trained.iterdir()}
        assert names == {
            "README.md", "config.json", "curves.png", "lexiseg_weights.json", "log.csv", "model.safetensors",
            "scans.csv",
        }  # fmt: skip
        assert "trained on true masks" in (trained / "README.md").read_text()
        with (trained / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["labels"] for row in rows} == {"true masks"}
        assert [int(row["step"]) for row in rows] == list(range(6, 49, 6))
        with (trained / "scans.csv").open(newline="") as file:
            scans = list(csv.DictReader(file))
        groups = {part: {r["group"] for r in scans if r["split"] == part} for part in ("train", "val")}
        assert groups["val"]
        assert not groups["train"] & groups["val"]

    @pytest.mark.parametrize("robust", [("co-teaching",), ("small-loss", "refresh", "snapshots")])
    def test_every_option_trains(
        self, robust: tuple[str, ...], labels: LabelSet, tiny: TrainSettings, tmp_path: Path
    ) -> None:
        settings = replace(tiny, robust=robust, steps=8, checks=4)
        report = train(labels, tmp_path / "m", settings, device="cpu")
        student = load_student(tmp_path / "m", device="cpu")
        assert report.config.members == len(student._networks) >= (2 if robust == ("co-teaching",) else 1)

    def test_continues_to_the_same_weights(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        settings = replace(tiny, steps=9, checks=3, robust=("weighting", "refresh", "snapshots"))
        train(labels, tmp_path / "whole", settings, device="cpu")
        for at in (4, 7):
            with pytest.raises(Killed):
                train(labels, tmp_path / "broken", settings, device="cpu", resume=True, progress=killer(at))
        torn = tmp_path / "broken" / ".0123456789abcdef.tmp"
        torn.touch()
        train(labels, tmp_path / "broken", settings, device="cpu", resume=True)
        assert not torn.exists()
        whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
        assert whole.keys() == broken.keys()
        assert all(torch.equal(value, broken[name]) for name, value in whole.items())
        assert not (tmp_path / "broken" / "checkpoint.pt").exists()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork of this process")
    def test_is_continued_after_a_kill(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        settings = replace(tiny, steps=3000, checks=1000)
        torch.set_num_threads(1)
        child = os.fork()
        if child == 0:
            try:
                train(labels, tmp_path / "m", settings, device="cpu")
            finally:
                os._exit(0)
        checkpoint = tmp_path / "m" / "checkpoint.pt"
        until = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert checkpoint.exists()
        steps: list[int] = []

        def tell(progress: TrainProgress) -> None:
            if progress.stage == "training":
                steps.append(progress.done)
                raise Killed

        with pytest.raises(Killed):
            train(labels, tmp_path / "m", settings, device="cpu", resume=True, progress=tell)
        assert steps[0] > 3

    def test_patience_ends_it(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        settings = replace(tiny, rate=1e-8, patience=2, steps=24, checks=12)
        report = train(labels, tmp_path / "m", settings, device="cpu")
        assert report.early

    def test_one_patient_trains_without_validation(
        self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = tuple(replace(row, extra={**row.extra, "split": "train"}) for row in labels.rows[:2])
        report = train(replace(labels, rows=rows), tmp_path / "m", replace(tiny, steps=3, checks=1), device="cpu")
        assert report.config.score is None
        assert "nothing is held out" in caplog.text

    @pytest.mark.parametrize("told", [{"names": ("LeftDisc",)}, {"one_sided": True}])
    def test_one_side_is_not_mirrored(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path, told: dict[str, Any]
    ) -> None:
        short = replace(tiny, steps=1, checks=1)
        assert not train(replace(labels, **told), tmp_path / "m", short, device="cpu").config.flips
        assert load_student(trained, device="cpu").config.flips


class TestRefusals:
    def test_a_finished_model_is_not_overwritten(self, labels: LabelSet, tiny: TrainSettings, trained: Path) -> None:
        with pytest.raises(UsageError, match="finished model"):
            train(labels, trained, tiny, device="cpu")

    def test_resuming_a_finished_one_leaves_it(self, labels: LabelSet, tiny: TrainSettings, trained: Path) -> None:
        before = (trained / "model.safetensors").read_bytes()
        assert train(labels, trained, tiny, device="cpu", resume=True).config.supervised
        assert (trained / "model.safetensors").read_bytes() == before
        with pytest.raises(UsageError, match="other settings"):
            train(labels, trained, replace(tiny, seed=5), device="cpu", resume=True)

    def test_a_finished_one_of_other_scans_or_masks_is_not_passed_off(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        fewer = replace(labels, rows=labels.rows[1:])
        mask = tmp_path / "other.png"
        mask.write_bytes((labels.rows[1].mask or mask).read_bytes())
        redrawn = replace(labels, rows=(replace(labels.rows[0], mask=mask), *labels.rows[1:]))
        for other in (fewer, redrawn):
            with pytest.raises(UsageError, match="other scans or masks; choose another folder"):
                train(other, trained, tiny, device="cpu", resume=True)
        assert train(labels, trained, tiny, device="cpu", resume=True).before

    def test_two_at_once(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        def second(progress: TrainProgress) -> None:
            with pytest.raises(UsageError, match="another run is writing there"):
                train(labels, tmp_path / "m", tiny, device="cpu", resume=True)

        train(labels, tmp_path / "m", replace(tiny, steps=2, checks=1), device="cpu", progress=second)

    def test_a_file_is_no_folder(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        (tmp_path / "m").write_text("mine")
        with pytest.raises(UsageError, match="it is a file; expected a folder"):
            train(labels, tmp_path / "m", tiny, device="cpu")
        assert (tmp_path / "m").read_text() == "mine"

    def test_towers_do_not_begin_from_a_unet(
        self, labels: LabelSet, tiny: TrainSettings, trained: Path, tmp_path: Path
    ) -> None:
        known = replace(labels, names=("lungs",))
        asked = TrainSettings(network="towers", start=str(trained))
        with pytest.raises(UsageError, match="it is a U-Net student; give --network unet too"):
            train(known, tmp_path / "m", asked, device="cpu")

    def test_another_runs_checkpoint_is_refused(self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path) -> None:
        with pytest.raises(Killed):
            train(labels, tmp_path / "m", replace(tiny, steps=4, checks=4), device="cpu", progress=killer(2))
        with pytest.raises(UsageError, match=r"checks=4 \(now 8\) and steps=4 \(now 5\); resume"):
            train(labels, tmp_path / "m", replace(tiny, steps=5), device="cpu", resume=True)
        (tmp_path / "m" / "checkpoint.pt").write_bytes(b"torn")
        with pytest.raises(UsageError, match="no checkpoint that can be read"):
            train(labels, tmp_path / "m", tiny, device="cpu", resume=True)

    def test_a_loss_that_is_not_finite_ends_it(
        self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "lexiseg.training.students.trainer.scan_losses",
            lambda: lambda logits, labels: logits.mean((1, 2, 3)) * float("nan"),
        )
        with pytest.raises(TrainingDiverged, match="--rate"):
            train(labels, tmp_path / "m", tiny, device="cpu")

    def test_a_full_disk_is_one_line(
        self, labels: LabelSet, tiny: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("lexiseg.files.os.fsync", full)
        with pytest.raises(UnwritableResult, match="No space left"):
            train(labels, tmp_path / "m", replace(tiny, steps=2, checks=2), device="cpu")
        assert not list((tmp_path / "m").iterdir())

"""A student behind a run, without a network: whatever is bright is the target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from scans_of import volume_of

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.io.find import find_sources
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.models.weights.records import WeightsInfo
from lexiseg.runs.batch import run_batch
from lexiseg.runs.items import gather_items
from lexiseg.runs.table import read_results
from lexiseg.training.students.config import StudentConfig
from lexiseg.training.students.predict import StudentPipeline
from lexiseg.training.students.student import Prediction
from lexiseg.values.scans import Image, Scan


class BrightStudent:
    """In the shape of a `Student`."""

    device, precision = torch.device("cpu"), "float32"
    weights = WeightsInfo("model", Path("model.safetensors"), "0" * 64)

    def __init__(self, *, supervised: bool = False) -> None:
        self.config = StudentConfig(
            names=("tumor",), supervised=supervised, channels=1, widths=(8, 16), residual_units=1, size=32,
            extent=32, members=1, flips=True,
        )  # fmt: skip
        self.flipped: list[bool | None] = []

    def predict(self, pixels: np.ndarray, *, flips: bool | None = None) -> Prediction:
        self.flipped.append(flips)
        grey = pixels if pixels.ndim == 2 else pixels.mean(-1)
        inside = np.clip(grey, 0.1, 0.9).astype(np.float32)
        return Prediction(np.stack([1 - inside, inside]), (1 - abs(2 * inside - 1)).astype(np.float32))


def student(**changes: Any) -> Any:
    return BrightStudent(**changes)


@pytest.fixture
def square() -> Scan:
    pixels = np.zeros((40, 40), np.float32)
    pixels[10:20, 10:20] = 1
    return Image(pixels)


class TestAnswers:
    def test_the_mask_is_what_is_likelier(self, square: Scan) -> None:
        found = StudentPipeline(student())(square, ["tumor"])["tumor"]
        np.testing.assert_array_equal(found.mask, square.pixels > 0.5)
        assert found.present
        assert found.presence == pytest.approx(0.9)
        assert found.confidence == pytest.approx(2 * 90 / (90 + 0.1 * 1500 + 100))

    def test_specks_are_no_answer(self, square: Scan) -> None:
        pixels = np.zeros((100, 100), np.float32)
        pixels[3, 3] = 1
        found = StudentPipeline(student())(Image(pixels), ["tumor"])["tumor"]
        assert not found.present
        assert found.confidence == pytest.approx(0.1)

    def test_a_mask_that_it_does_not_trust_is_left_out(self, square: Scan) -> None:
        """Of this one it expects 0.53 (the test above)."""
        kept = StudentPipeline(student(), min_confidence=0.5)(square, ["tumor"])["tumor"]
        left = StudentPipeline(student(), min_confidence=0.55)(square, ["tumor"])["tumor"]
        assert kept.present and kept.mask.any()
        assert not left.present and not left.mask.any()
        assert left.confidence == pytest.approx(0.1) and left.presence == pytest.approx(0.9)

    def test_each_slice_of_a_volume_is_trusted_by_itself(self, square: Scan) -> None:
        dim = np.full((40, 40), 0.4, np.float32)
        dim[:4, :4] = 0.6
        volume = volume_of(np.stack([square.pixels, dim]))
        found = StudentPipeline(student(), min_confidence=0.3)(volume, ["tumor"])["tumor"]
        assert found.mask[0].any() and not found.mask[1].any()

    @pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
    def test_a_confidence_out_of_range_is_refused(self, least: float) -> None:
        with pytest.raises(UsageError, match=r"--min-confidence is .*; expected 0 to 1"):
            StudentPipeline(student(), min_confidence=least)

    def test_an_unknown_phrase_is_refused(self, square: Scan) -> None:
        with pytest.raises(BadPhrase, match="knows tumor"):
            StudentPipeline(student())(square, ["heart"])

    @pytest.mark.parametrize("asked", [None, False, True])
    def test_flips_as_it_is_told(self, square: Scan, asked: bool | None) -> None:
        fake = student()
        StudentPipeline(fake, flips=asked)(square, ["tumor"])
        assert fake.flipped == [asked]

    @pytest.mark.parametrize(
        ("asked", "members", "mirrored"),
        [(None, 1, "both"), (None, 3, "turns"), (False, 3, "no"), (True, 3, "both")],
    )
    def test_the_record_says_who_saw_the_mirrored_scan(self, asked: bool | None, members: int, mirrored: str) -> None:
        fake = student()
        fake.config = replace(fake.config, members=members)
        assert StudentPipeline(fake, flips=asked).preset.mask["mirror"] == mirrored

    def test_a_student_of_a_side_is_not_mirrored_unless_told(self) -> None:
        config = replace(student().config, members=3, flips=False)
        assert [config.mirror(asked) for asked in (None, False, True)] == ["no", "no", "both"]

    def test_says_that_it_used_labels(self) -> None:
        preset = StudentPipeline(student(supervised=True)).preset
        assert preset.name == "student-supervised"
        assert "true masks" in preset.about


class TestRun:
    def test_writes_what_segment_writes_and_the_uncertainty(self, scans: Path, tmp_path: Path) -> None:
        items = gather_items([scans], phrases=["tumor"])
        run_batch(StudentPipeline(student()), items, tmp_path / "out", phrases=["tumor"])
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"files.csv", "results.csv", "run.json"} | {
            f"{scan}_{kind}.png" for scan in "abc" for kind in ("mask", "uncertainty")
        }
        assert [row.preset for row in read_results(tmp_path / "out" / "results.csv")] == ["student"] * 3
        shown = np.asarray(Pillow.open(tmp_path / "out" / "a_uncertainty.png"))
        assert shown.shape == (24, 32)

    def test_an_uncertainty_is_no_scan(self, scans: Path) -> None:
        Pillow.open(scans / "a.png").save(scans / "a_uncertainty.png")
        assert [source.path.name for source in find_sources([scans])] == ["a.png", "b.png", "c.png"]

    def test_a_volume_is_done_slice_by_slice_on_its_own_grid(self, tmp_path: Path) -> None:
        voxels = np.random.default_rng(0).random((9, 8, 5)).astype(np.float32)
        affine = np.diag([2.0, 1.0, 3.0, 1.0])
        nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "v.nii.gz")
        items = gather_items([tmp_path / "v.nii.gz"], phrases=["tumor"])
        run_batch(StudentPipeline(student()), items, tmp_path / "out", phrases=["tumor"])
        scan = read_scan(tmp_path / "v.nii.gz")
        assert read_mask(tmp_path / "out" / "v_mask.nii.gz", scan).shape == scan.shape
        written = nib.load(tmp_path / "out" / "v_uncertainty.nii.gz")
        np.testing.assert_array_equal(written.affine, affine)
        assert written.shape == (9, 8, 5)

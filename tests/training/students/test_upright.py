"""Scans that lie mirrored by their header: as models see them upright, so they are learnt, with their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.models.fpn import STRIDE
from lexiseg.pipelines.results import TargetResult
from lexiseg.training.finetuning import data
from lexiseg.training.students import samples, towers_data
from lexiseg.training.students.set_writer import _planes
from lexiseg.training.students.soft import SoftTeacher, soft_path
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image

SIDE = 16
MIRRORED = np.array([[1.0, 0, 0], [0, 0, -1.0]])
"""Columns grow to the patient's right, rows to the feet: a chest X-ray seen from behind."""
BRIGHT = np.zeros((SIDE, SIDE), np.float32)
BRIGHT[:, : SIDE // 4] = 1


def scan() -> Image:
    """Bright at the left edge as it is stored, so at the right edge upright."""
    return Image(BRIGHT, id="s", geometry=Geometry.of_picture((SIDE, SIDE), MIRRORED))


@pytest.fixture
def row(tmp_path: Path) -> ManifestRow:
    """Of a scan whose mask is what is bright, on its stored pixels."""
    Pillow.fromarray((BRIGHT * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    return ManifestRow(id="s", image=tmp_path / "s.dcm", mask=tmp_path / "mask.png")


def test_a_set_of_pseudo_labels(tmp_path: Path) -> None:
    ((plane, labels),) = _planes(scan(), BRIGHT.astype(np.uint8))
    np.testing.assert_array_equal(plane.pixels, BRIGHT[:, ::-1])
    np.testing.assert_array_equal(labels, BRIGHT[:, ::-1])

    def teacher(scan: Any, phrases: Any) -> Any:
        target = TargetResult("disc", BRIGHT > 0, True, 1.0, 1.0, probability=BRIGHT)
        return type("Found", (), {"targets": (target,)})()

    SoftTeacher(teacher, tmp_path)(scan(), ["disc"])
    with np.load(soft_path(tmp_path, "s")) as stored:
        np.testing.assert_array_equal(stored["probabilities"][0], BRIGHT[:, ::-1] * 255)


def test_what_the_towers_learn(row: ManifestRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towers_data, "read_scan", lambda *place, **named: scan())
    look = towers_data.Look(size=SIDE, grid=SIDE // STRIDE, fill=0.25, deviation=0.5, percentile=100)
    image, target, _, _ = towers_data._read(row, 1, look, hard=True)
    np.testing.assert_array_equal(image[0], BRIGHT[:, ::-1] * 255)
    np.testing.assert_array_equal(target[0], BRIGHT[:, ::-1] * 255)


def test_what_a_unet_learns(row: ManifestRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "read_scan", lambda *place, **named: scan())
    image, labels = samples._read(row, 1, SIDE)
    np.testing.assert_array_equal(image[0], BRIGHT[:, ::-1] * 255)
    np.testing.assert_array_equal(np.squeeze(labels), BRIGHT[:, ::-1])


def test_what_an_encoder_is_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "read_scan", lambda *place, **named: scan())
    store = data.PixelStore(size=SIDE, kept={}, limit=0)
    np.testing.assert_array_equal(store._content(Path("s.dcm")), (BRIGHT[:, ::-1] * 255).astype(np.uint8))

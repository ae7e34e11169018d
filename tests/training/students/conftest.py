"""Small sets on disk, one small trained student, and helpers on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))

pytest.importorskip("monai", reason="students need lexiseg[train]")

from discs import write_discs

from lexiseg.training.students.labels import read_true_masks
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.train import train

TINY = TrainSettings(
    network="unet", size=32, start="none", widths=(8, 16, 32), residual_units=1, batch=4, steps=48, checks=8, cycles=2,
    rate=1e-2, average=0.8, patience=0,
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> TrainSettings:
    """Settings that learn a disc in seconds."""
    return TINY


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three grey images of 24 x 32 pixels: a.png, b.png, c.png."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for index, name in enumerate("abc"):
        values = np.random.default_rng(index).integers(0, 256, (24, 32)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 scans of 6 patients with true masks."""
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder, 12)
    return folder


@pytest.fixture(scope="session")
def trained(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder, trained on the discs."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("student") / "model"
    train(read_true_masks(discs / "manifest.csv", ["disc"]), out, TINY, device="cpu")
    return out

"""Small scans on disk, and helpers on the path."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three grey images of 24 x 32 pixels: a.png, b.png, c.png."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for index, name in enumerate("abc"):
        values = np.random.default_rng(index).integers(0, 256, (24, 32)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
    return folder

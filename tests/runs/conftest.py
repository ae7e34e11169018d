"""Small scans on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three grey images of 24 x 32 pixels: a.png, b.png, c.png."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for index, name in enumerate("abc"):
        values = np.random.default_rng(index).integers(0, 256, (24, 32)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{name}.png")
    return folder

"""Scans of one bright disc each, with their masks and a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.datasets.manifest import ManifestRow, write_manifest

HEIGHT, WIDTH = 36, 48


def disc(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey scan uint8 (36, 48) and its mask, bool."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    row, column, radius = random.uniform(12, 24), random.uniform(14, 34), random.uniform(6, 10)
    mask = (y - row) ** 2 + (x - column) ** 2 < radius**2
    grey = np.clip(50 + 120 * mask + random.normal(0, 10, mask.shape), 0, 255)
    return grey.astype(np.uint8), mask


def write_discs(folder: Path, count: int, *, per_group: int = 2, **extra: str) -> list[ManifestRow]:
    """Scans d0, d1, ... with true masks, `per_group` of a patient, and manifest.csv."""
    rows = []
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        grey, mask = disc(k)
        image, truth = folder / "images" / f"d{k}.png", folder / "masks" / f"d{k}.png"
        Image.fromarray(grey).save(image)
        Image.fromarray(mask.astype(np.uint8) * 255).save(truth)
        rows.append(ManifestRow(id=f"d{k}", image=image, mask=truth, group=f"p{k // per_group}", extra=dict(extra)))
    write_manifest(rows, folder / "manifest.csv")
    return rows

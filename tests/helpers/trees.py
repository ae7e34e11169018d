"""Data sets of a few tiny files, as they lie on disk once unpacked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from lexiseg.datasets.importing import Imported, ImportRequest, import_dataset
from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.io.masks import read_mask

SIZE = 16


def picture(path: Path, *, size: int = SIZE) -> Path:
    """A grey ramp."""
    return save(path, np.add.outer(np.arange(size), np.arange(size)) * 4)


def block(top: int, bottom: int, left: int, right: int, *, size: int = SIZE) -> np.ndarray:
    """A rectangle's mask."""
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def mask_file(path: Path, mask: np.ndarray | None = None) -> Path:
    """A mask of 0 and 255; a block in the middle unless given."""
    return save(path, (block(4, 12, 4, 12) if mask is None else mask) * np.uint8(255))


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def volume(path: Path, voxels: np.ndarray | None = None) -> Path:
    """A NIfTI file whose axes have three lengths, so that none can be mistaken for another."""
    if voxels is None:
        voxels = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 1.0, 1.0, 1.0])), path)
    return path


def run_import(layout: str, source: Path, **options: object) -> tuple[dict[str, ManifestRow], Imported]:
    """Import into the source's folder; the rows that the manifest gives back, by id."""
    out = options.pop("out", source / "manifest.csv")
    before = fingerprint(source)
    imported = import_dataset(ImportRequest(layout=layout, source=source, out=out, **options))
    after = fingerprint(source)
    assert {name: after.get(name) for name in before} == before, "the data set was changed"
    rows = read_manifest(out)
    assert [row.error for row in rows] == [""] * len(rows)
    assert all(row.image.is_file() and (row.mask is None or row.mask.is_file()) for row in rows)
    return {row.id: row for row in rows}, imported


def fingerprint(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.csv"
    }


def inside(row: ManifestRow) -> np.ndarray:
    """A row's mask."""
    assert row.mask is not None
    return read_mask(row.mask)

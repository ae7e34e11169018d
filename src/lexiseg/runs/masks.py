"""A phrase's mask of a scan as a run wrote it, in whichever of its formats a mask can be read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lexiseg.io.dicom.objects import text_of
from lexiseg.io.dicom.placed import grid_of, read_placed, series_uid
from lexiseg.io.masks import read_mask
from lexiseg.io.names import slugs
from lexiseg.runs.folder import GRIDS
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan

PLACED = (".seg.dcm", ".rtstruct.dcm")
"""Ends of DICOM objects, each of which holds all phrases that were found."""


def mask_stem(name: str, phrases: Sequence[str], phrase: str) -> str:
    """What the files of a phrase's own mask are called, without their end.

    Args:
        name: what the scan's files begin with.
        phrases: all phrases of the scan, in the run's order.
        phrase: one of them.
    """
    if len(phrases) == 1:
        return f"{name}_mask"
    return f"{name}_mask_{dict(zip(phrases, slugs(list(phrases)), strict=True))[phrase]}"


def stored_mask(folder: Path, name: str, phrases: Sequence[str], phrase: str, scan: Scan) -> BoolArray | None:
    """A phrase's mask of a scan, bool of the scan's shape, from PNG, NIfTI, NRRD, DICOM SEG or a structure set.

    A DICOM object holds what was found alone. Where it has no part of the phrase's name, the mask is not there.

    Args:
        folder: where the files are.
        name: what the scan's files begin with.
        phrases: all phrases of the scan, in the run's order.
        phrase: one of them.
        scan: what the mask is of.

    Returns:
        None where no file holds it.

    Raises:
        UnreadableScan: it cannot be read, or is not on the scan's grid.
    """
    stem = mask_stem(name, phrases, phrase)
    for end in GRIDS:
        if (path := folder / f"{stem}{end}").is_file():
            return read_mask(path, scan)
    for end in PLACED:
        if (path := folder / f"{name}_mask{end}").is_file():
            placed = read_placed(path)
            # Texts in DICOM are cut at their longest.
            label = text_of(phrase)
            if len(phrases) > 1 and not placed.has(label):
                continue
            numbers = placed.numbers(text=label)
            return placed.onto(numbers, scan.shape, grid_of(scan), series=series_uid(scan))
    return None


def same_mask(one: BoolArray | None, other: BoolArray) -> bool:
    """Whether two masks are equal; None is an empty one."""
    return not other.any() if one is None else bool(np.array_equal(one, other))

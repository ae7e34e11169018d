"""Masks of one or several targets as one map of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.masks import read_stored
from lexiseg.io.names import printable


def read_labels(path: str | Path, *, targets: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a mask file as labels.

    Args:
        path: an image or NIfTI. Of one target, every value above 0 is inside; of several, k is the k-th.
        targets: how many.
        shape: of the scan, which the mask must have.

    Returns:
        uint8 of that shape, 0 to `targets`.

    Raises:
        UnreadableScan: it cannot be read, has another shape, or holds other values; one line that begins with
            the file's name.
    """
    path = Path(path)
    stored = read_stored(path, indices=targets > 1)
    label = printable(str(path))
    if stored.values.shape != shape:
        raise UnreadableScan(f"{label}: its shape is {stored.values.shape}, its scan's is {shape}; expected the same")
    if targets == 1:
        return stored.inside().astype(np.uint8)
    held = np.unique(stored.values)
    if stored.blurred or not np.isin(held, np.arange(targets + 1)).all():
        raise UnreadableScan(
            f"{label}: it holds values up to {held.max():g}; expected labels 0 to {targets}, as PNG or NIfTI"
        )
    return np.ascontiguousarray(stored.values.astype(np.uint8))

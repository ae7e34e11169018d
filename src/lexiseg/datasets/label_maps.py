"""Masks of one or several targets as one map of labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.masks import read_stored
from lexiseg.io.names import printable
from lexiseg.values.arrays import BoolArray

logger = logging.getLogger(__name__)


def read_labels(path: str | Path, *, targets: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a mask file as labels.

    Args:
        path: an image, NIfTI or DICOM. Of one target, a mask as `Stored.decided` has it; of several, k is the k-th.
        targets: how many.
        shape: of the scan, which the mask must have.

    Returns:
        uint8 of that shape, 0 to `targets`.

    Raises:
        UnreadableScan: it cannot be read, has another shape, or holds other values; one line that begins with
            the file's name.
    """
    path = Path(path)
    stored = read_stored(path)
    label = printable(str(path))
    if stored.values.shape != shape:
        hint = " (was it drawn before EXIF turned the scan?)" if stored.values.shape == shape[::-1] else ""
        raise UnreadableScan(
            f"{label}: its shape is {stored.values.shape}, its scan's is {shape}{hint}; expected the same"
        )
    if targets == 1:
        try:
            found = stored.decided()
        except UnreadableScan as error:
            told, choose, _ = str(error).partition("; choose with --label")
            hint = "; make masks of one target with `lexiseg dataset import --target NAME`" if choose else ""
            raise UnreadableScan(told + hint) from error
        for note in found.notes:
            logger.info("%s: %s", label, note)
        return found.mask.astype(np.uint8)
    held = np.unique(stored.values)
    if stored.lossy or stored.paint.packed or not np.isin(held, np.arange(targets + 1)).all():
        raise UnreadableScan(
            f"{label}: it holds values up to {held.max():g}; expected labels 0 to {targets}, as PNG or NIfTI"
        )
    return np.ascontiguousarray(stored.values.astype(np.uint8))


def laid_over(masks: Sequence[BoolArray]) -> NDArray[np.uint8]:
    """A label map of masks, the smaller ones over the larger ones; of equal ones the first is on top."""
    labels = np.zeros(masks[0].shape, np.uint8)
    sizes = [int(mask.sum()) for mask in masks]
    for k in sorted(range(len(masks)), key=lambda k: (-sizes[k], -k)):
        labels[masks[k]] = k + 1
    return labels

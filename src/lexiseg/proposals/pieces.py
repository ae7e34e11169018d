"""Small pieces and holes of a mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lexiseg.scans.scan import BoolArray

_TOUCHING = np.ones((3, 3), np.bool_)  # pixels that share a corner belong together, as everywhere in lexiseg


def clean_pieces(mask: BoolArray, *, min_piece: float) -> BoolArray:
    """A mask without small holes, then without small pieces; the largest piece stays whatever its size.

    Args:
        mask: bool (H, W), not empty.
        min_piece: the smallest piece or hole that stays, as a fraction of the scan.

    Returns:
        bool (H, W), a new array.
    """
    filled = mask | _small(~mask, min_piece, keep_largest=False)
    return filled & ~_small(filled, min_piece, keep_largest=True)


def _small(mask: BoolArray, min_piece: float, *, keep_largest: bool) -> BoolArray:
    labels, count = ndimage.label(mask, structure=_TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes < min_piece * mask.size
    small[0] = False
    if keep_largest and count:
        small[1 + int(sizes[1:].argmax())] = False
    found: BoolArray = small[labels]
    return found

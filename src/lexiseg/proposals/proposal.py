"""A region of a scan with what is known of it, all of them, and masks without small pieces and holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lexiseg.values.arrays import BoolArray


@dataclass(frozen=True, eq=False)
class Proposal:
    """One region with what the generator knows of it.

    Attributes:
        mask: bool (H, W) on the scan's grid, never empty.
        box: (x0, y0, x1, y1) of the mask in scan pixels, end-exclusive.
        iou: the segmenter's own estimate of the mask's IoU, 0 to 1.
        stability: IoU of the mask at a higher and at a lower threshold, 0 to 1.
        point: (x, y) in scan pixels, the grid point that was asked.
        crop: (x0, y0, x1, y1) of the part of the scan in which it was found, end-exclusive.
    """

    mask: BoolArray
    box: tuple[int, int, int, int]
    iou: float
    stability: float
    point: tuple[float, float]
    crop: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())


@dataclass(frozen=True, eq=False)
class Proposals:
    """All regions of one scan, best first; there may be none.

    Attributes:
        shape: (H, W) of the scan.
        items: the regions, by falling predicted IoU.
    """

    shape: tuple[int, int]
    items: tuple[Proposal, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Proposal]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Proposal:
        return self.items[index]


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

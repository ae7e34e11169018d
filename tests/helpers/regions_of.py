"""Proposals made by hand."""

from __future__ import annotations

import numpy as np

from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.values.arrays import BoolArray

Box = tuple[int, int, int, int]


def filled(shape: tuple[int, int], *boxes: Box) -> BoolArray:
    """A mask that is true in each box (x0 y0 x1 y1)."""
    mask = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def proposal(mask: BoolArray, *, iou: float = 0.9, stability: float = 0.8) -> Proposal:
    """A proposal of any mask."""
    y, x = np.nonzero(mask)
    box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
    return Proposal(
        mask=mask,
        box=box,
        iou=iou,
        stability=stability,
        point=(x[0] + 0.5, y[0] + 0.5),
        crop=(0, 0, mask.shape[1], mask.shape[0]),
    )


def boxes_of(shape: tuple[int, int], *boxes: Box) -> Proposals:
    """One proposal for each box, filled."""
    return Proposals(shape, tuple(proposal(filled(shape, box)) for box in boxes))

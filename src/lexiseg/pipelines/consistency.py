"""What neighbouring planes say of each other: a volume's target goes on from plane to plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lexiseg.pipelines.results import SliceResult
from lexiseg.pipelines.settings import VolumeSettings
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.region import Region
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts

Redraw = Callable[[int, Prompts, Region, SliceResult], SliceResult]
"""Asks the segmenter again: (plane, prompts, what the neighbours expect, the empty answer) -> another one."""


def make_consistent(
    slices: Sequence[SliceResult], settings: VolumeSettings, redraw: Redraw | None = None
) -> list[SliceResult]:
    """One phrase's planes after they have been compared with their neighbours.

    Gaps are filled first, then isolated planes are emptied, so that a plane with a filled neighbour is not
    alone.  Each step looks at the planes as they were before it: their order does not matter.

    Args:
        slices: in the order of the planes.
        settings: see `VolumeSettings`; a volume of one plane has no neighbours and stays as it is.
        redraw: see `Redraw`; None fills no gap.
    """
    kept = list(slices)
    if len(kept) == 1:
        return kept
    if settings.fill_gaps and redraw is not None:
        kept = _fill_gaps(kept, settings.min_overlap, redraw)
    return _drop_isolated(kept, settings.min_overlap) if settings.drop_isolated else kept


def _fill_gaps(slices: list[SliceResult], least: float, redraw: Redraw) -> list[SliceResult]:
    filled = list(slices)
    for index in range(1, len(slices) - 1):
        before, gap, after = slices[index - 1 : index + 2]
        if gap.present or not _overlap(before.estimate.mask, after.estimate.mask) >= least:
            continue
        prompts, expected = _between(before, after)
        again = redraw(index, prompts, expected, gap)
        if all(_overlap(again.estimate.mask, each.estimate.mask) >= least for each in (before, after)):
            filled[index] = again
    return filled


def _drop_isolated(slices: list[SliceResult], least: float) -> list[SliceResult]:
    masks = [each.estimate.mask for each in slices]

    def alone(index: int) -> bool:
        beside = masks[max(0, index - 1) : index] + masks[index + 1 : index + 2]
        return not any(_overlap(masks[index], mask) >= least for mask in beside)

    return [each.emptied() if each.present and alone(index) else each for index, each in enumerate(slices)]


def _between(before: SliceResult, after: SliceResult) -> tuple[Prompts, Region]:
    """The mean of the two neighbours' boxes, and what either of them has."""
    hulls = [prompts_from_region(answer.estimate.mask, boxes="hull").boxes for answer in (before, after)]
    either = before.estimate.mask | after.estimate.mask
    expected = (before.estimate.mask.astype(np.float32) + after.estimate.mask) / np.float32(2)
    boxes = (hulls[0] + hulls[1]) / np.float32(2)
    return Prompts(boxes=boxes.astype(np.float32)), Region(either, expected.astype(np.float32))


def _overlap(first: BoolArray, second: BoolArray) -> float:
    """What share of the smaller mask lies in the other; 0 where one is empty."""
    smaller = min(int(first.sum()), int(second.sum()))
    return int((first & second).sum()) / smaller if smaller else 0.0

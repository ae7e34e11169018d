"""What neighbouring slices say of each other: a volume's target goes on from slice to slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.io.reader import VolumeAxis
from lexiseg.pipelines.results import Answer
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.region import Region
from lexiseg.values.scan import BoolArray, Prompts

Retry = Callable[[int, Prompts, Region, Answer], Answer]
"""Asks the segmenter again: (slice, prompts, what the neighbours expect, the empty answer) -> another one."""


@dataclass(frozen=True, kw_only=True)
class VolumeSettings:
    """How a volume is cut, and what its slices may say of each other.

    Attributes:
        axis: the plane of the slices, as for `lexiseg.read_scan`; a volume in memory is cut already.
        drop_lone: empty a slice whose mask overlaps neither neighbour's: a structure of the body spans
            slices, a slip of the encoder mostly does not.
        retry_gaps: ask the segmenter once more in an empty slice between two that have the target, with the
            box that lies between theirs, and keep what overlaps both.
        overlap: the share of the smaller mask that counts as overlapping, above 0 and at most 1.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    axis: VolumeAxis = "auto"
    drop_lone: bool = False
    retry_gaps: bool = False
    overlap: float = 0.1

    def __post_init__(self) -> None:
        if self.axis not in get_args(VolumeAxis):
            raise UsageError(f"volume: axis is {self.axis!r}; expected one of {', '.join(get_args(VolumeAxis))}")
        for name in ("drop_lone", "retry_gaps"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"volume: {name} is {getattr(self, name)!r}; expected true or false")
        if not 0 < self.overlap <= 1:
            raise UsageError(f"volume: overlap is {self.overlap}; expected above 0 and at most 1")


def make_consistent(answers: Sequence[Answer], settings: VolumeSettings, retry: Retry | None = None) -> list[Answer]:
    """One phrase's slices after they have been compared with their neighbours.

    Gaps are filled first, then lone slices are dropped, so that a slice with a filled neighbour is not
    alone.  Each step looks at the slices as they were before it: their order does not matter.

    Args:
        answers: in the order of the slices.
        settings: see `VolumeSettings`; a volume of one slice has no neighbours and stays as it is.
        retry: see `Retry`; None fills no gap.
    """
    kept = list(answers)
    if len(kept) == 1:
        return kept
    if settings.retry_gaps and retry is not None:
        kept = _fill_gaps(kept, settings.overlap, retry)
    return _drop_lone(kept, settings.overlap) if settings.drop_lone else kept


def _fill_gaps(answers: list[Answer], least: float, retry: Retry) -> list[Answer]:
    filled = list(answers)
    for index in range(1, len(answers) - 1):
        before, gap, after = answers[index - 1 : index + 2]
        if gap.present or not _overlap(before.drawn.mask, after.drawn.mask) >= least:
            continue
        prompts, expected = _between(before, after)
        again = retry(index, prompts, expected, gap)
        if all(_overlap(again.drawn.mask, each.drawn.mask) >= least for each in (before, after)):
            filled[index] = again
    return filled


def _drop_lone(answers: list[Answer], least: float) -> list[Answer]:
    masks = [answer.drawn.mask for answer in answers]

    def alone(index: int) -> bool:
        beside = masks[max(0, index - 1) : index] + masks[index + 1 : index + 2]
        return not any(_overlap(masks[index], mask) >= least for mask in beside)

    return [answer.emptied() if answer.present and alone(index) else answer for index, answer in enumerate(answers)]


def _between(before: Answer, after: Answer) -> tuple[Prompts, Region]:
    """The mean of the two neighbours' boxes, and what either of them has."""
    hulls = [prompts_from_region(answer.drawn.mask, boxes="hull").boxes for answer in (before, after)]
    either = before.drawn.mask | after.drawn.mask
    expected = (before.drawn.mask.astype(np.float32) + after.drawn.mask) / np.float32(2)
    boxes = (hulls[0] + hulls[1]) / np.float32(2)
    return Prompts(boxes=boxes.astype(np.float32)), Region(either, expected.astype(np.float32))


def _overlap(first: BoolArray, second: BoolArray) -> float:
    """What share of the smaller mask lies in the other; 0 where one is empty."""
    smaller = min(int(first.sum()), int(second.sum()))
    return int((first & second).sum()) / smaller if smaller else 0.0

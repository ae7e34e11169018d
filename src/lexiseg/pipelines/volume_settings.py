"""How a volume is cut, what its slices may say of each other, and how a target is carried between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from lexiseg.errors import UsageError
from lexiseg.values.geometry import PlaneName
from lexiseg.values.window import check_window

_KEEP = ("all", "largest")


@dataclass(frozen=True, kw_only=True)
class VolumeSettings:
    """How a volume is cut, and what its slices may say of each other.

    The steps are taken in the order in which they are listed here. A step in mm needs the distance between slices:
    where nobody knows it, as in a stack in time, the step is left out and a note says so.

    Attributes:
        plane: the plane in which a volume is looked at: auto (of acquisition), axial, coronal or sagittal.
        window: which values are black and white: auto, file, percentiles, lung, soft-tissue, bone, brain, or
            CENTRE,WIDTH; see `lexiseg.values.window.check_window`. An image whose file has units takes it too.
        batch: how many slices go through the models at once; 0 for eight, and on a CPU for four where the saliency is
            dense and one elsewhere.
        propagate: the surest slices are carried to their neighbours by the segmenter, see `PropagationSettings`;
            what they do not reach stays empty.
        smoothing: mm, the standard deviation of a Gaussian along the normal, over the probabilities of the slices
            that are drawn; 0 for none.
        gate: slices stay empty whose piece is not sure enough: its surest slice, by confidence times presence, must
            reach this share of the volume's surest one, 0 to 1; 0 for none. The preset's threshold, which is made
            for single scans, holds for each slice besides.
        max_gap: mm. Empty slices between two that have the target are asked for once more, with the box that lies
            between theirs, where they are at most so thick together. All of them must overlap both ends, and be rated
            by the segmenter as `PropagationSettings.min_iou` says. 0 for none.
        min_slices: pieces of the target that span fewer slices go: a structure of the body spans slices, a slip of
            the encoder mostly does not. Pixels that touch are one piece, and so are equal pixels of neighbours.
        min_volume: mm3; smaller pieces go.
        min_share: pieces smaller than this share of the largest one go, 0 to 1.
        keep: "all" pieces that are left, or the "largest".
        min_overlap: the share of the smaller mask that counts as overlapping, above 0 and at most 1.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    plane: PlaneName = "auto"
    window: str = "auto"
    batch: int = 0
    propagate: bool = False
    smoothing: float = 0.0
    gate: float = 0.0
    max_gap: float = 0.0
    min_slices: int = 1
    min_volume: float = 0.0
    min_share: float = 0.0
    keep: str = "all"
    min_overlap: float = 0.1

    def __post_init__(self) -> None:
        if self.plane not in get_args(PlaneName):
            raise UsageError(f"volume: plane is {self.plane!r}; expected one of {', '.join(get_args(PlaneName))}")
        check_window(self.window)
        _whole("volume", "batch", self.batch, 0)
        _whole("volume", "min_slices", self.min_slices, 1)
        for name in ("gate", "min_share"):
            _number("volume", name, getattr(self, name), 1, "a share, 0 to 1")
        for name, unit in (("max_gap", "mm"), ("min_volume", "mm3"), ("smoothing", "mm")):
            _number("volume", name, getattr(self, name), math.inf, f"{unit}, 0 or more")
        if not isinstance(self.propagate, bool):
            raise UsageError(f"volume: propagate is {self.propagate!r}; expected true or false")
        if self.keep not in _KEEP:
            raise UsageError(f"volume: keep is {self.keep!r}; expected {' or '.join(_KEEP)}")
        if not 0 < self.min_overlap <= 1:
            raise UsageError(f"volume: min_overlap is {self.min_overlap}; expected above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """When a segmenter that carries a target from slice to slice has lost it, and where it begins.

    Attributes:
        min_seed: a slice that text answered is a beginning where its confidence times presence is at least this
            share of the surest slice's, and no earlier beginning reached it; 0 to 1.
        min_iou: the target is lost where the segmenter's estimate of its mask falls below this share of what it is
            where the target was begun, 0 to 1.
        min_overlap: the Dice with the neighbour's mask below which it is lost, 0 to 1.
        max_growth: how many times the neighbour's area a mask may have, 1 or more. What was lost grows: the box is
            filled with what is there instead.
        max_shrink: how many times smaller than the neighbour's it may be, 1 or more.
        margin: how far the neighbour's box is grown on every side, as a fraction of its sides, 0 to 1.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    min_seed: float = 0.9
    min_iou: float = 0.75
    min_overlap: float = 0.4
    max_growth: float = 1.5
    max_shrink: float = 4.0
    margin: float = 0.1

    def __post_init__(self) -> None:
        for name in ("min_seed", "min_iou", "min_overlap", "margin"):
            _number("propagation", name, getattr(self, name), 1, "0 to 1")
        for name in ("max_growth", "max_shrink"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value < math.inf:
                raise UsageError(f"propagation: {name} is {value!r}; expected a factor, 1 or more")


def _number(section: str, name: str, value: object, most: float, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most or value == math.inf:
        raise UsageError(f"{section}: {name} is {value!r}; expected {expected}")


def _whole(section: str, name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{section}: {name} is {value!r}; expected a whole number, {least} or more")

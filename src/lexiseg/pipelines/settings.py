"""The settings of a pipeline's own stages: phrases, masks, what is picked, and what slices say of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from lexiseg.errors import UsageError
from lexiseg.values.geometry import PlaneName
from lexiseg.values.window import check_window

_KEEP = ("all", "largest")


@dataclass(frozen=True, kw_only=True)
class PhraseSettings:
    """How a typed phrase is put to the encoder.

    Attributes:
        ensemble: the mean of the phrase in every template of its target, with the target's synonyms; else the
            phrase alone.

    Raises:
        UsageError: a value that the setting cannot take.
    """

    ensemble: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.ensemble, bool):
            raise UsageError(f"phrases: ensemble is {self.ensemble!r}; expected true or false")


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How prompts become the final mask.

    Attributes:
        fusion: "segmenter" for the segmenter's outline; "region" for the refined region, cut anew by `binarize` where
            that is not "half"; "average" where the weighted mean of the segmenter's and the region's probability is
            high enough, which helps where both err in their own ways (a region that keeps its saliency as
            probability, as the rule "threshold" does, has most to add).
        segmenter_weight: the segmenter's share of that mean, 0 to 1; or "by-size": four fifths for the
            smallest targets, less for larger ones, by the longer side of the region's largest piece as a
            fraction of the scan's. A saliency map has so many positions a scan, so that it knows the outline
            of a large target better than that of a small one.
        binarize: "half" for what is more likely than not, pixel by pixel; "expected-dice" for the
            mask that promises the highest Dice (`best_by_expected_dice`), which is wider where the probability
            is unsure of itself, as it is on scans unlike those that the models know.
        crop_scale: a box is shown to the segmenter in a window of this many times its longer side, encoded by
            itself, where that leaves out enough of the scan; 0 shows the whole scan. A small target fills few
            of the segmenter's pixels otherwise; around a box that lies beside it, the whole scan shows it at
            least. Of several windows the mean counts, weighted by how the segmenter rates its mask in each.
        multimask: three candidates for each prompt, of which the one is taken that overlaps the region most
            (by Dice); else the segmenter's single answer.
        min_area: pieces smaller than this fraction of the scan are dropped.
        least_sure: pieces whose mean probability is below this share of the surest piece's are dropped, 0 to 1; not of
            targets that come in more than two pieces (teeth, nuclei).
        fill_holes: whether holes are filled.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    fusion: str = "segmenter"
    segmenter_weight: float | str = 0.5
    binarize: str = "half"
    crop_scale: float | tuple[float, ...] = 0.0
    multimask: bool = False
    min_area: float = 0.0
    least_sure: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in ("segmenter", "region", "average"):
            raise UsageError(f"mask: fusion is {self.fusion!r}; expected segmenter, region or average")
        for name in ("multimask", "fill_holes"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"mask: {name} is {getattr(self, name)!r}; expected true or false")
        weight = self.segmenter_weight
        if weight != "by-size" if isinstance(weight, str) else not 0 <= weight <= 1:
            raise UsageError(f"mask: segmenter_weight is {weight}; expected a share, 0 to 1, or by-size")
        if self.binarize not in ("half", "expected-dice"):
            raise UsageError(f"mask: binarize is {self.binarize!r}; expected half or expected-dice")
        for name in ("min_area", "least_sure"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"mask: {name} is {getattr(self, name)}; expected a fraction, 0 to 1")
        if not self.windows or not all(isinstance(c, (int, float)) and (c == 0 or 1 <= c <= 100) for c in self.windows):
            raise UsageError(
                f"mask: crop_scale is {self.crop_scale}; expected 0, or the window's side in boxes, 1 to 100, or "
                "several of them"
            )

    @property
    def windows(self) -> tuple[float, ...]:
        """`crop_scale`, as many as there are."""
        return tuple(self.crop_scale) if isinstance(self.crop_scale, (list, tuple)) else (self.crop_scale,)


@dataclass(frozen=True, kw_only=True)
class PickSettings:
    """Which proposal is taken without a phrase.

    Attributes:
        pick: "largest", or "central" for the one whose centre of mass lies nearest to the scan's centre.

    Raises:
        UsageError: a value that the setting cannot take.
    """

    pick: str = "largest"

    def __post_init__(self) -> None:
        if self.pick not in ("largest", "central"):
            raise UsageError(f"retrieval: pick is {self.pick!r}; expected largest or central")


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """Which of a text segmenter's candidates are taken.

    Attributes:
        min_score: a candidate is taken whose score, presence included, is above this, 0 to 1.
        min_area: pieces of the mask smaller than this fraction of the scan are dropped.
        fill_holes: whether holes are filled.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    min_score: float = 0.3
    min_area: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        for name in ("min_score", "min_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"instances: {name} is {getattr(self, name)}; expected 0 to 1")
        if not isinstance(self.fill_holes, bool):
            raise UsageError(f"instances: fill_holes is {self.fill_holes!r}; expected true or false")


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

"""What can be set of a pipeline's own stages; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from lexiseg.errors import UsageError
from lexiseg.proposals.settings import CropSettings, ProposalSettings, RetrievalSettings
from lexiseg.regions.prompts import HullSettings, PromptSettings
from lexiseg.regions.refine import REFINERS
from lexiseg.saliency.settings import SALIENCY_SETTINGS, PresenceSettings
from lexiseg.values.geometry import PlaneName
from lexiseg.values.window import check_window


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
        fusion: "segmenter" for the segmenter's outline; "region" for the refined region as it is; "average"
            where the weighted mean of the segmenter's and the region's probability is high enough, which
            helps where both err in their own ways (a region that keeps its saliency as probability, as the
            rule "threshold" does, has most to add).
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
        if not 0 <= self.min_area <= 1:
            raise UsageError(f"mask: min_area is {self.min_area}; expected a fraction of the scan, 0 to 1")
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
class VolumeSettings:
    """How a volume is cut, and what its slices may say of each other.

    Attributes:
        plane: the plane in which a volume is looked at: auto (of acquisition), axial, coronal or sagittal.
        window: which values are black and white: auto, file, percentiles, lung, soft-tissue, bone, brain, or
            CENTRE,WIDTH; see `lexiseg.values.window.check_window`. An image whose file has units takes it too.
        drop_isolated: empty a slice whose mask overlaps neither neighbour's: a structure of the body spans
            slices, a slip of the encoder mostly does not.
        fill_gaps: ask the segmenter once more in an empty slice between two that have the target, with the
            box that lies between theirs, and keep what overlaps both.
        min_overlap: the share of the smaller mask that counts as overlapping, above 0 and at most 1.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    plane: PlaneName = "auto"
    window: str = "auto"
    drop_isolated: bool = False
    fill_gaps: bool = False
    min_overlap: float = 0.1

    def __post_init__(self) -> None:
        if self.plane not in get_args(PlaneName):
            raise UsageError(f"volume: plane is {self.plane!r}; expected one of {', '.join(get_args(PlaneName))}")
        check_window(self.window)
        for name in ("drop_isolated", "fill_gaps"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"volume: {name} is {getattr(self, name)!r}; expected true or false")
        if not 0 < self.min_overlap <= 1:
            raise UsageError(f"volume: min_overlap is {self.min_overlap}; expected above 0 and at most 1")


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


@dataclass(frozen=True)
class OneOf:
    """A section whose `method` says which settings it has.

    Attributes:
        kinds: method -> settings.
        default: the method where none is named.
    """

    kinds: Mapping[str, type[Any]]
    default: str


SALIENCY = OneOf(SALIENCY_SETTINGS, "gscorecam")
REGIONS = OneOf(REFINERS, "crf")

PIPELINE_SECTIONS: Mapping[str, Mapping[str, type[Any] | OneOf]] = {
    "medclip-sam": {
        "phrases": PhraseSettings,
        "saliency": SALIENCY,
        "regions": REGIONS,
        "prompts": PromptSettings,
        "mask": MaskSettings,
        "presence": PresenceSettings,
        "volume": VolumeSettings,
    },
    "salip": {
        "phrases": PhraseSettings,
        "proposals": ProposalSettings,
        "crops": CropSettings,
        "retrieval": RetrievalSettings,
        "saliency": OneOf(SALIENCY_SETTINGS, "dense"),
        "prompts": HullSettings,
        "mask": MaskSettings,
        "presence": PresenceSettings,
        "volume": VolumeSettings,
    },
    "sam-unprompted": {"proposals": ProposalSettings, "retrieval": PickSettings, "volume": VolumeSettings},
    "sam-box": {"prompts": PromptSettings, "mask": MaskSettings, "volume": VolumeSettings},
}
"""Pipeline -> the sections of a preset that it reads, in the order of its stages."""

TOLD_THE_TRUTH = frozenset({"sam-box"})
"""Pipelines that are yardsticks: they are told the true mask."""

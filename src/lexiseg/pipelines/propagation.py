"""A target carried from slice to slice by the segmenter, until it has lost it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lexiseg.models.protocols import Segmenter, Tracker
from lexiseg.pipelines.cache import CachedSegmenter, EncodingCache
from lexiseg.pipelines.fusion import clean_answer, encode_queries, segment_queries
from lexiseg.pipelines.results import MaskEstimate
from lexiseg.pipelines.settings import MaskSettings, PropagationSettings
from lexiseg.regions.refine import prompts_from_region
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Prompts, Region
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Plane


@dataclass(frozen=True, eq=False)
class Carried:
    """A plane that a target was carried to.

    Attributes:
        prompts: what the segmenter was asked, from the neighbour's mask; empty where its memory was asked.
        estimate: what it drew.
        overlap: the Dice of that with the neighbour's mask.
    """

    prompts: Prompts
    estimate: MaskEstimate
    overlap: float


def propagate(
    segmenter: Segmenter,
    planes: Sequence[Plane],
    start: int,
    mask: BoolArray,
    *,
    settings: PropagationSettings | None = None,
    mask_settings: MaskSettings | None = None,
    forbidden: Collection[int] = (),
    encodings: EncodingCache | None = None,
) -> dict[int, BoolArray]:
    """A mask of one plane carried to the planes before and after it.

    Each plane is asked with the mask of its neighbour: a box around each piece, and the mask itself where the
    segmenter was taught to read masks; or from its memory where it has one (`Tracker`).  It ends on either side where
    the segmenter has lost the target: its own estimate of the mask, the overlap with the neighbour's mask, or the
    change of area is beyond the settings' bounds.  The plane where that is seen is not among the answers.

    Args:
        segmenter: any.
        planes: of one volume, in order; each is made when it is asked for.
        start: the plane that the mask is of.
        mask: bool (h, w); of an empty one nothing is carried.
        settings: when it is lost.
        mask_settings: how the segmenter is asked and its answer is cut; its own outline is taken, whatever the
            settings' fusion says.
        forbidden: planes that it ends at, such as those that a person drew.
        encodings: kept from call to call.

    Returns:
        The masks, bool (h, w), of the planes that it reached, without the start.

    Raises:
        IndexError: there is no such plane.
        ValueError: the mask has another shape than the plane.

    Example:
        >>> from lexiseg.datasets.phantoms.volume import generate_volume
        >>> made = generate_volume("breast-ultrasound", 4, slices=7, size=96, spacing=(6.0, 1.2, 1.2))
        >>> found = propagate(lexiseg.load("demo").segmenter, made.scan.planes(), 3, made.target[3])
        >>> sorted(found), [k for k in range(7) if made.target[k].any() and k != 3]
        ([2, 4], [2, 4])
    """
    carry = carrier(segmenter, settings, mask_settings, encodings)
    found = carry_both_ways(carry, planes, start, mask, forbidden=forbidden)
    return {index: each.estimate.mask for index, each in found.items()}


class Carrier:
    """Asks for a target in a plane by what it is in the neighbour.

    Args:
        segmenter: any; asked by boxes around the pieces of the neighbour's mask, and by the mask where it reads
            masks.
        settings: see `PropagationSettings`.
        mask: how its answer is cut.
        encodings: kept from call to call; None for none.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        settings: PropagationSettings,
        mask: MaskSettings,
        encodings: EncodingCache | None,
    ) -> None:
        self.settings = settings
        self._segmenter, self._encodings = segmenter, encodings
        self._mask = replace(mask, fusion="segmenter", multimask=False)

    def start(self, plane: Plane, mask: BoolArray) -> tuple[float, Any]:
        """How the segmenter rates the target where it begins, and what is known of it before the first step."""
        if mask.shape != plane.shape:
            raise ValueError(f"the mask has shape {mask.shape}, expected the plane's {plane.shape}")
        return self.step(plane, mask)[0].estimate.iou, mask

    def step(self, plane: Plane, known: Any) -> tuple[Carried, Any]:
        """The target in a plane, and what is known of it then."""
        before: BoolArray = known
        # A piece too small to be asked for alone is still the target where it is all that is left of it.
        prompts = prompts_from_region(before, boxes="all", margin=self.settings.margin, min_area=self._mask.min_area)
        if prompts.empty:
            prompts = prompts_from_region(before, margin=self.settings.margin)
        if prompts.empty:
            return Carried(prompts, MaskEstimate.nothing(plane.shape), 0.0), before
        segmenter = CachedSegmenter(self._segmenter, self._encodings)
        queries = encode_queries(segmenter, plane.pixels, prompts, self._mask, like=before)
        estimate = segment_queries(segmenter, queries, Region(before, before.astype(np.float32)), self._mask)
        return Carried(prompts, estimate, dice(estimate.mask, before)), estimate.mask


class _ByMemory(Carrier):
    """Asks a segmenter that remembers the planes before."""

    def start(self, plane: Plane, mask: BoolArray) -> tuple[float, Any]:
        if mask.shape != plane.shape:
            raise ValueError(f"the mask has shape {mask.shape}, expected the plane's {plane.shape}")
        tracker: Any = self._segmenter
        memory = tracker.remember(tracker.encode(plane.pixels), mask)
        return self.step(plane, (mask, memory))[0].estimate.iou, (mask, memory)

    def step(self, plane: Plane, known: Any) -> tuple[Carried, Any]:
        tracker: Any = self._segmenter
        before, memory = known
        image = tracker.encode(plane.pixels)
        decoded = tracker.follow(image, memory)
        probability = tracker.upsample(decoded.logits[0], image).sigmoid().float().cpu().numpy()[0]
        mask = clean_answer(probability, self._mask)
        estimate = MaskEstimate(mask, float(decoded.iou[0, 0]), probability)
        here = Carried(Prompts(), estimate, dice(mask, before))
        return here, (mask, tracker.remember(image, mask, memory) if mask.any() else memory)


def carrier(
    segmenter: Segmenter,
    settings: PropagationSettings | None = None,
    mask: MaskSettings | None = None,
    encodings: EncodingCache | None = None,
) -> Carrier:
    """How a segmenter carries: by its memory where it has one, else by prompts."""
    kind = _ByMemory if isinstance(segmenter, Tracker) else Carrier
    return kind(segmenter, settings or PropagationSettings(), mask or MaskSettings(), encodings)


def carry_both_ways(
    carry: Carrier, planes: Sequence[Plane], start: int, mask: BoolArray, *, forbidden: Collection[int] = ()
) -> dict[int, Carried]:
    """`propagate`, with what the segmenter was asked and how it rates its answers."""
    if not 0 <= start < len(planes):
        raise IndexError(f"there is no plane {start}, expected 0 to {len(planes) - 1}")
    found: dict[int, Carried] = {}
    if mask.any():
        rated, known = carry.start(planes[start], mask)
        for indices in (range(start + 1, len(planes)), range(start - 1, -1, -1)):
            found.update(_carry(carry, planes, indices, known, begun=(rated, int(mask.sum())), forbidden=forbidden))
    return found


def _carry(
    carry: Carrier,
    planes: Sequence[Plane],
    indices: range,
    known: Any,
    *,
    begun: tuple[float, int],
    forbidden: Collection[int],
) -> Iterator[tuple[int, Carried]]:
    rated, area = begun
    for index in indices:
        if index in forbidden:
            return
        here, known = carry.step(planes[index], known)
        size = int(here.estimate.mask.sum())
        if is_lost(here, rated, size / area, carry.settings):
            return
        area = size
        yield index, here


def is_lost(here: Carried, rated: float, change: float, settings: PropagationSettings) -> bool:
    """Whether a target was lost in a plane.

    Args:
        here: what was drawn.
        rated: the segmenter's estimate where the target was begun.
        change: the area as a multiple of the neighbour's.
        settings: the bounds.
    """
    return (
        change == 0
        or here.estimate.iou < settings.min_iou * rated
        or here.overlap < settings.min_overlap
        or change > settings.max_growth
        or 1 / change > settings.max_shrink
    )

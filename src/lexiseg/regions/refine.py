"""The refiners by name, the call that picks one, and boxes and points for a segmenter out of a region."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.regions.crf import DenseCRF
from lexiseg.regions.threshold import (
    Component,
    Order,
    find_components,
    fixed_threshold,
    kmeans,
    otsu,
    percentile_threshold,
)
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, Refiner, Region, Saliency


@dataclass(frozen=True, kw_only=True)
class FixedThreshold:
    """What lies above a saliency; see `fixed_threshold`.

    Attributes:
        threshold: from 0 to 1.
    """

    method: ClassVar[str] = "threshold"

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold}, expected a saliency from 0 to 1")

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """See `Refiner`; the pixels are not looked at, and the region's probability is the saliency."""
        return Region(fixed_threshold(saliency, threshold=self.threshold), saliency)


@dataclass(frozen=True, kw_only=True)
class PercentileThreshold:
    """What lies above a percentile of the map; see `percentile_threshold`.

    Attributes:
        percentile: from 0 to 100.
    """

    method: ClassVar[str] = "percentile"

    percentile: float = 90.0

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile}, expected a number from 0 to 100")

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """See `Refiner`; the pixels are not looked at, and the region's probability is the saliency."""
        return Region(percentile_threshold(saliency, percentile=self.percentile), saliency)


@dataclass(frozen=True, kw_only=True)
class Otsu:
    """What lies above Otsu's threshold; see `otsu`."""

    method: ClassVar[str] = "otsu"

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """See `Refiner`; the pixels are not looked at, and the region's probability is the saliency."""
        return Region(otsu(saliency), saliency)


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """The highest of k clusters of saliency values; see `kmeans`.

    Attributes:
        clusters: how many, at least 2.
    """

    method: ClassVar[str] = "kmeans"

    clusters: int = 2

    def __post_init__(self) -> None:
        if self.clusters < 2:
            raise UsageError(f"clusters is {self.clusters}, expected 2 or more")

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """See `Refiner`; the pixels are not looked at, and the region's probability is the saliency."""
        return Region(kmeans(saliency, clusters=self.clusters), saliency)


REFINERS: dict[str, type[Refiner]] = {
    each.method: each for each in (DenseCRF, Otsu, KMeans, FixedThreshold, PercentileThreshold)
}
"""Method -> a dataclass of its settings that is called; another one is added by an entry of one's own."""


def make_refiner(method: str = "crf", **settings: Any) -> Refiner:
    """A refiner with its settings.

    Raises:
        UsageError: no such method, no such setting, or a value that a setting cannot take.
    """
    if method not in REFINERS:
        raise UsageError(f"there is no refiner {method!r}, expected one of {', '.join(REFINERS)}")
    kind: Any = REFINERS[method]
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        expected = ", ".join(known) or "none"
        raise UsageError(f"refiner {method!r} has no setting {', '.join(unknown)}, expected any of: {expected}")
    refiner: Refiner = kind(**settings)
    return refiner


def refine(saliency: Saliency, pixels: FloatArray, refiner: Refiner) -> Region:
    """Turn a saliency map into a region.

    Args:
        saliency: the map, float32 (H, W) in [0, 1], with its phrase.
        pixels: the scan, float32 (H, W) or (H, W, 3) in [0, 1], on the map's grid.
        refiner: of `make_refiner`.

    Returns:
        The region on the same grid; empty where the map is flat.

    Raises:
        ValueError: map and pixels do not fit together, or the map holds a value that is not finite.
    """
    if saliency.map.ndim != 2 or saliency.map.size == 0 or pixels.shape[:2] != saliency.map.shape:
        raise ValueError(
            f"saliency has shape {saliency.map.shape} and the scan {pixels.shape}, expected one grid (H, W)"
        )
    if not np.isfinite(saliency.map).all():
        raise ValueError("the saliency holds a value that is not finite, expected numbers in [0, 1]")
    return refiner(saliency.map, pixels)


Boxes = Literal["largest", "all", "hull", "none"] | int
Points = Literal["none", "center", "peak"]

_NEGATIVE_ZONE = 0.25


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Which boxes and points are asked; see `prompts_from_region`.

    Attributes:
        boxes: one box around the largest component ("largest"), around each ("all"), around each of the first
            so many (a number), around all of them together ("hull"), or no box but points ("none").
        margin: how far a box is grown on every side, as a fraction of its width and height.
        min_area: components smaller than this fraction of the scan are not asked for.
        order: components by area or by mean saliency, highest first.
        points: for each component no point, the pixel farthest from its outline ("center"), or its most
            salient pixel ("peak").
        negatives: how many points outside the region to add.
        levels: the saliencies at which the map is cut for prompts, of which the best answer counts; none asks
            about the region itself.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    boxes: Boxes = "largest"
    margin: float = 0.0
    min_area: float = 0.0
    order: Order = "area"
    points: Points = "none"
    negatives: int = 0
    levels: float | tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(each, int | float) and 0 < each < 1 for each in self.cuts):
            raise UsageError(f"prompts: levels is {self.levels!r}; expected numbers between 0 and 1, both excluded")
        # Nothing is asked of an empty region, but options are looked at.
        self.prompts(np.zeros((2, 2), np.bool_), np.zeros((2, 2), np.float32))

    @property
    def cuts(self) -> tuple[float, ...]:
        """`levels`, as many as there are."""
        return tuple(self.levels) if isinstance(self.levels, list | tuple) else (self.levels,)

    def prompts(self, region: BoolArray, saliency: FloatArray | None = None) -> Prompts:
        """What to ask about a region, bool (H, W)."""
        return prompts_from_region(
            region,
            saliency,
            boxes=self.boxes,
            margin=self.margin,
            min_area=self.min_area,
            order=self.order,
            points=self.points,
            negatives=self.negatives,
        )


@dataclass(frozen=True, kw_only=True)
class HullSettings:
    """What is asked about a proposal: one box around all of it, with points; see `prompts_from_region`.

    Attributes:
        margin: how far the box is grown on every side, as a fraction of its width and height.
        points: no point, or the pixel farthest from the outline ("center").
        negatives: how many points outside the region to add.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    margin: float = 0.0
    points: Points = "none"
    negatives: int = 0

    def __post_init__(self) -> None:
        self.prompts(np.zeros((2, 2), np.bool_))

    def prompts(self, region: BoolArray) -> Prompts:
        """What to ask about a proposal, bool (H, W)."""
        return prompts_from_region(
            region, boxes="hull", margin=self.margin, points=self.points, negatives=self.negatives
        )


def prompts_from_region(
    region: BoolArray,
    saliency: FloatArray | None = None,
    *,
    boxes: Boxes = "largest",
    margin: float = 0.0,
    min_area: float = 0.0,
    order: Order = "area",
    points: Points = "none",
    negatives: int = 0,
) -> Prompts:
    """What to ask a segmenter so that it outlines a region.

    An empty region, or one whose every component is too small, gives empty prompts: the target is absent.

    Args:
        region: bool (H, W).
        saliency: float32 (H, W); needed for `points="peak"` and `order="saliency"` only.
        boxes: one box around the largest component ("largest"), around each ("all"), around each of the first
            so many (a number), around all of them together ("hull"), or no box but points ("none").
        margin: how far a box is grown on every side, as a fraction of its width and height, never past the
            scan's border.
        min_area: components smaller than this fraction of the scan are not asked for.
        order: components by area or by mean saliency, highest first; boxes and points follow it.
        points: for each component that is asked for, no point, the pixel farthest from its outline
            ("center"), or its most salient pixel ("peak", equal ones by distance from the outline).  Either
            lies in the region.
        negatives: how many points outside the region to add after those inside: each the farthest from
            the region and from the negative points before it, within the boxes grown by a quarter.

    Returns:
        boxes (N, 4) end-exclusive, points (M, 2) at pixel centres, labels (M,) 1 inside and 0 outside.

    Raises:
        UsageError: an option has a value that it cannot take, or a saliency is needed and missing.
        ValueError: the saliency does not have the region's shape.
    """
    _check(saliency, boxes, margin, points, negatives)
    keep = boxes if isinstance(boxes, int) or boxes == "largest" else "all"
    components = find_components(region, saliency, keep=keep, min_area=min_area, order=order)
    if not components:
        return Prompts()
    around = np.array([component.box for component in components], np.float32)
    if boxes == "hull":
        around = np.concatenate([around[:, :2].min(axis=0), around[:, 2:].max(axis=0)])[None]
    inside = np.zeros((0, 2), np.float32)
    if points != "none":
        inside = np.array([_inner_point(c, saliency if points == "peak" else None) for c in components])
    outside = _outer_points(region, around, negatives)
    return Prompts(
        boxes=np.zeros((0, 4), np.float32) if boxes == "none" else _grow(around, margin, region.shape),
        points=np.concatenate([inside, outside]).astype(np.float32),
        labels=np.repeat(np.array([1, 0], np.int64), [len(inside), len(outside)]),
    )


def _inner_point(component: Component, saliency: FloatArray | None) -> tuple[float, float]:
    from scipy import ndimage  # here, since importing it takes longer than all of the room

    x0, y0, x1, y1 = component.box
    # A frame of background, so that the scan's border and the box's count as outline.
    depth = ndimage.distance_transform_edt(np.pad(component.mask, 1))[1:-1, 1:-1]
    if saliency is not None:
        within = np.where(component.mask, saliency[y0:y1, x0:x1], -np.inf)
        depth = np.where(within == within.max(), depth, 0)
    y, x = divmod(int(depth.argmax()), depth.shape[1])
    return x0 + x + 0.5, y0 + y + 0.5


def _outer_points(region: BoolArray, boxes: FloatArray, count: int) -> FloatArray:
    from scipy import ndimage  # here, since importing it takes longer than all of the room

    if not count:
        return np.zeros((0, 2), np.float32)
    zone = np.zeros(region.shape, np.bool_)
    for x0, y0, x1, y1 in _grow(boxes, _NEGATIVE_ZONE, region.shape):
        zone[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    distance = np.where(zone, ndimage.distance_transform_edt(~region), 0)
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    chosen: list[tuple[float, float]] = []
    while len(chosen) < count and distance.any():
        y, x = divmod(int(distance.argmax()), distance.shape[1])
        chosen.append((x + 0.5, y + 0.5))
        distance = np.minimum(distance, np.hypot(rows - y, columns - x))
    return np.array(chosen, np.float32).reshape(-1, 2)


def _grow(boxes: FloatArray, margin: float, shape: tuple[int, ...]) -> FloatArray:
    height, width = shape
    by = margin * (boxes[:, 2:] - boxes[:, :2])
    grown = np.concatenate([boxes[:, :2] - by, boxes[:, 2:] + by], axis=1)
    return np.asarray(np.clip(grown, 0, [width, height, width, height]), np.float32)


def _check(saliency: FloatArray | None, boxes: Boxes, margin: float, points: Points, negatives: int) -> None:
    if boxes not in ("largest", "all", "hull", "none") and (not isinstance(boxes, int) or boxes < 1):
        raise UsageError(f"boxes is {boxes!r}, expected 'largest', 'all', 'hull', 'none' or a number above 0")
    if points not in ("none", "center", "peak"):
        raise UsageError(f"points is {points!r}, expected 'none', 'center' or 'peak'")
    if boxes == "none" and points == "none":
        raise UsageError("neither boxes nor points were asked for, expected at least one of them")
    if points == "peak" and saliency is None:
        raise UsageError("points='peak' needs the saliency map, and none was given")
    if not 0 <= margin < float("inf"):
        raise UsageError(f"margin is {margin}, expected a fraction of the box's size, 0 or more")
    if negatives < 0:
        raise UsageError(f"negatives is {negatives}, expected 0 or more")

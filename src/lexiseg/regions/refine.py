"""The refiners by name, and the call that picks one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.regions.crf import DenseCRF
from lexiseg.regions.region import Refiner, Region
from lexiseg.regions.threshold import fixed_threshold, kmeans, otsu, percentile_threshold
from lexiseg.values.arrays import FloatArray
from lexiseg.values.masks import Saliency


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

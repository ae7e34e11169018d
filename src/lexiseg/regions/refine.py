"""The refiners by name, and the call that picks one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.regions.crf import CRFRefiner
from lexiseg.regions.region import Refiner, Region
from lexiseg.regions.threshold import fixed_threshold, kmeans, otsu, percentile_threshold
from lexiseg.values.scan import BoolArray, FloatArray, Saliency


class RuleRefiner:
    """A refiner out of a rule that looks at the saliency alone; the region's probability is the saliency."""

    def __init__(self, rule: Callable[..., BoolArray]) -> None:
        """Wrap a function of the saliency whose settings are its keyword-only arguments."""
        self._rule = rule

    @property
    def settings(self) -> tuple[str, ...]:
        """The rule's keyword-only arguments."""
        parameters = inspect.signature(self._rule).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def __call__(self, saliency: FloatArray, pixels: FloatArray, **settings: Any) -> Region:
        """Apply the rule; the pixels are not looked at."""
        return Region(self._rule(saliency, **settings), saliency)


REFINERS: dict[str, Refiner] = {
    "crf": CRFRefiner(),
    "otsu": RuleRefiner(otsu),
    "kmeans": RuleRefiner(kmeans),
    "threshold": RuleRefiner(fixed_threshold),
    "percentile": RuleRefiner(percentile_threshold),
}


def refine(saliency: Saliency, pixels: FloatArray, *, method: str = "crf", **settings: Any) -> Region:
    """Turn a saliency map into a region.

    Args:
        saliency: the map, float32 (H, W) in [0, 1], with its phrase.
        pixels: the scan, float32 (H, W) or (H, W, 3) in [0, 1], on the map's grid.
        method: a key of `REFINERS`; another one is added by an entry of one's own.
        settings: the method's own (`REFINERS[method].settings`).

    Returns:
        The region on the same grid; empty where the map is flat.

    Raises:
        UsageError: no such method, no such setting, or a value that a setting cannot take.
        ValueError: map and pixels do not fit together, or the map holds a value that is not finite.
    """
    if method not in REFINERS:
        raise UsageError(f"there is no refiner {method!r}, expected one of {', '.join(REFINERS)}")
    refiner = REFINERS[method]
    unknown = sorted(set(settings) - set(refiner.settings))
    if unknown:
        known = ", ".join(refiner.settings) or "none"
        raise UsageError(f"refiner {method!r} has no setting {', '.join(unknown)}, expected any of: {known}")
    if saliency.map.ndim != 2 or saliency.map.size == 0 or pixels.shape[:2] != saliency.map.shape:
        raise ValueError(
            f"saliency has shape {saliency.map.shape} and the scan {pixels.shape}, expected one grid (H, W)"
        )
    if not np.isfinite(saliency.map).all():
        raise ValueError("the saliency holds a value that is not finite, expected numbers in [0, 1]")
    return refiner(saliency.map, pixels, **settings)

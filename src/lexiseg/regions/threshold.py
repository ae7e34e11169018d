"""From a saliency map to a region: thresholds, and connected components cleaned.

Every rule keeps what lies strictly above a threshold, and gives an empty region for a flat map.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import box_of

FLAT_RANGE = 1e-6


def is_flat(saliency: FloatArray) -> bool:
    """True where the map, (H, W), spans less than 1e-6: it points nowhere, so no region may come from it."""
    return float(np.ptp(saliency)) < FLAT_RANGE


def fixed_threshold(saliency: FloatArray, *, threshold: float = 0.5) -> BoolArray:
    """What lies above a saliency, between 0 and 1.

    Raises:
        UsageError: the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"threshold is {threshold}, expected a saliency from 0 to 1")
    return _above(saliency, lambda: threshold)


def percentile_threshold(saliency: FloatArray, *, percentile: float = 90.0) -> BoolArray:
    """What lies above a percentile, 0 to 100, of the map: at most 100 - percentile per cent of the scan.

    Raises:
        UsageError: the percentile is not in [0, 100].
    """
    if not 0 <= percentile <= 100:
        raise UsageError(f"percentile is {percentile}, expected a number from 0 to 100")
    return _above(saliency, lambda: float(np.percentile(saliency, percentile)))


def otsu(saliency: FloatArray) -> BoolArray:
    """What lies above Otsu's threshold, which maximises the variance between the two sides.

    Source: Otsu, "A threshold selection method from gray-level histograms", 1979 (by scikit-image).
    """
    from skimage.filters import threshold_otsu

    return _above(saliency, lambda: float(threshold_otsu(saliency)))


def kmeans(saliency: FloatArray, *, clusters: int = 2) -> BoolArray:
    """The highest of k clusters of saliency values, by Lloyd's algorithm (scipy).

    The centres start at evenly spaced ranks of the map's distinct values, so nothing is drawn at random.

    Raises:
        UsageError: fewer than two clusters.
    """
    from scipy.cluster.vq import kmeans2

    if clusters < 2:
        raise UsageError(f"clusters is {clusters}, expected 2 or more")

    def threshold() -> float:
        distinct = np.unique(saliency).astype(np.float64)
        ranks = np.linspace(0, len(distinct) - 1, min(clusters, len(distinct))).round().astype(int)
        with warnings.catch_warnings():
            # A cluster that runs empty keeps its centre, which is what is wanted here.
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres, _ = kmeans2(saliency.ravel().astype(np.float64), distinct[ranks], minit="matrix", iter=50)
        return float(np.sort(centres)[-2:].mean())

    return _above(saliency, threshold)


def best_by_expected_dice(probability: FloatArray) -> BoolArray:
    r"""The pixels that promise the highest Dice, where each is part of the target with its probability.

    With probabilities :math:`p_i` a mask M promises :math:`D(M) = 2 \sum_{i \in M} p_i / (|M| + \sum_i p_i)`,
    the ratio of what numerator and denominator of Dice are expected to be. The best one is
    :math:`\{p_i > D^* / 2\}` (Lipton et al., "Optimal thresholding of classifiers to maximize F1 measure",
    ECML 2014): what is above one half where all is sure, above less where it is not. Found by
    Dinkelbach's iteration (Management Science 13, 1967), which ends after a few looks at the map.

    Args:
        probability: any shape, 0 to 1.

    Returns:
        bool, of the same shape; empty where no pixel has any probability.
    """
    total = float(probability.sum(dtype=np.float64))

    def promise(mask: BoolArray) -> float:
        inside = float(probability[mask].sum(dtype=np.float64))
        return 2 * inside / (int(mask.sum()) + total) if inside else 0.0

    highest, mask = -1.0, probability > 0.5
    while (promised := promise(mask)) > highest:
        highest, mask = promised, probability > promised / 2
    return mask


def _above(saliency: FloatArray, threshold: Callable[[], float]) -> BoolArray:
    if is_flat(saliency):
        return np.zeros(saliency.shape, np.bool_)
    return saliency > threshold()


Keep = Literal["all", "largest"] | int
Order = Literal["area", "saliency"]

_TOUCHING = np.ones((3, 3), np.bool_)  # pixels that share a corner are one component, as in a traced contour


@dataclass(frozen=True, eq=False)
class Component:
    """One connected piece of a mask.

    Attributes:
        box: (x0, y0, x1, y1) in pixels, end-exclusive.
        area: how many pixels it has.
        saliency: the mean saliency of its pixels; NaN where no saliency was given.
        mask: bool (y1 - y0, x1 - x0), the piece inside its box.
    """

    box: tuple[int, int, int, int]
    area: int
    saliency: float
    mask: BoolArray


def find_components(
    mask: BoolArray,
    saliency: FloatArray | None = None,
    *,
    keep: Keep = "all",
    min_area: float = 0.0,
    order: Order = "area",
) -> tuple[Component, ...]:
    """The pieces of a mask, 8-connected, first the largest (or the most salient).

    Args:
        mask: bool (H, W).
        saliency: float32 (H, W); needed for `order="saliency"` only.
        keep: all pieces, the largest, or the first so many in the order asked for.
        min_area: pieces smaller than this fraction of the scan are dropped.
        order: by area, or by mean saliency; equal ones from top to bottom, then left to right.

    Raises:
        UsageError: an option has a value that it cannot take, or a saliency is needed and missing.
        ValueError: the saliency does not have the mask's shape.
    """
    _check(mask, saliency, keep, min_area, order)
    if not mask.any():
        return ()
    from scipy import ndimage  # here, since importing it takes longer than all of the room

    # Around the mask there is nothing to count, and mostly more of it than of the mask.
    left, top, right, bottom = box_of(mask)
    labels, count = ndimage.label(mask[top:bottom, left:right], structure=_TOUCHING)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    means = np.full(count, np.nan)
    if saliency is not None:
        inner = saliency[top:bottom, left:right].astype(np.float64)
        means = np.bincount(labels.ravel(), inner.ravel(), count + 1)[1:] / areas
    found = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        area = int(areas[label - 1])
        if area >= min_area * mask.size:
            box = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
            found.append(Component(box, area, float(means[label - 1]), labels[rows, columns] == label))
    # Labels are numbered from top to bottom, then left to right, and the sort is stable.
    if keep == "largest" or order == "area":
        found.sort(key=lambda component: -component.area)
    else:
        found.sort(key=lambda component: -component.saliency)
    return tuple(found if keep == "all" else found[: 1 if keep == "largest" else keep])


def clean_mask(
    mask: BoolArray,
    saliency: FloatArray | None = None,
    *,
    keep: Keep = "all",
    min_area: float = 0.0,
    order: Order = "area",
    fill_holes: bool = False,
    least_sure: float = 0.0,
) -> BoolArray:
    """A mask without its small pieces and, where asked, without holes: for regions and for final masks alike.

    Holes are filled first, so that a ring counts with all that it encloses.  Options as in
    `find_components`, which also says what is raised; with `least_sure` above 0, pieces whose mean saliency is below
    this share of the highest are dropped too.

    Returns:
        bool (H, W), a new array.
    """
    from scipy import ndimage  # here, since importing it takes longer than all of the room

    if fill_holes:
        mask = ndimage.binary_fill_holes(mask)
    cleaned = np.zeros(mask.shape, np.bool_)
    pieces = find_components(mask, saliency, keep=keep, min_area=min_area, order=order)
    if least_sure and saliency is None:
        raise UsageError("least_sure needs the saliency map, and none was given")
    least = least_sure * max(piece.saliency for piece in pieces) if least_sure and pieces else -np.inf
    for component in pieces:
        if component.saliency < least:
            continue
        x0, y0, x1, y1 = component.box
        cleaned[y0:y1, x0:x1] |= component.mask
    return cleaned


def _check(mask: BoolArray, saliency: FloatArray | None, keep: Keep, min_area: float, order: Order) -> None:
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise TypeError(f"mask is {mask.dtype} of shape {mask.shape}, expected bool (H, W)")
    if saliency is not None and saliency.shape != mask.shape:
        raise ValueError(f"saliency has shape {saliency.shape}, expected the mask's {mask.shape}")
    if keep not in ("all", "largest") and (not isinstance(keep, int) or keep < 1):
        raise UsageError(f"keep is {keep!r}, expected 'all', 'largest' or a number above 0")
    if not 0 <= min_area <= 1:
        raise UsageError(f"min_area is {min_area}, expected a fraction of the scan from 0 to 1")
    if order not in ("area", "saliency"):
        raise UsageError(f"order is {order!r}, expected 'area' or 'saliency'")
    if order == "saliency" and saliency is None:
        raise UsageError("order='saliency' needs the saliency map, and none was given")

"""Rules that take a region from a saliency map alone: saliency (H, W) to bool (H, W).

Every rule keeps what lies strictly above a threshold, and gives an empty region for a flat map.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.values.arrays import BoolArray, FloatArray

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

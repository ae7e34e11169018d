"""How well a saliency map points, before any threshold or outline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.scans.scan import BoolArray


def saliency_auc(truth: BoolArray, saliency: NDArray[Any]) -> float:
    """Area under the ROC curve of the pixels: how often a pixel inside is more salient than one outside.

    P(s_in > s_out) + P(s_in = s_out) / 2, from ranks (Mann-Whitney). No unit; 0 to 1, 0.5 by chance.
    Undefined (NaN) where the truth is empty or full. Source: D. Bamber, J Math Psychol 12 (1975) 387-415.

    Args:
        truth: bool, any shape.
        saliency: real numbers, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _refuse_shapes(truth, saliency)
    inside = int(np.count_nonzero(truth))
    outside = truth.size - inside
    if inside == 0 or outside == 0:
        return math.nan
    if saliency.dtype == np.uint8:
        # Maps on disk have 256 levels: counting them takes a tenth of the time of sorting pixels.
        within = np.bincount(saliency[truth], minlength=256)
        without = np.bincount(saliency[~truth], minlength=256)
        below = np.cumsum(without) - without
        return float((within * (below + without / 2)).sum() / (inside * outside))
    from scipy.stats import rankdata

    ranks = rankdata(saliency, axis=None).reshape(truth.shape)
    above = float(ranks[truth].sum()) - inside * (inside + 1) / 2
    return above / (inside * outside)


def pointing_game(truth: BoolArray, saliency: NDArray[Any]) -> float:
    """Whether the most salient pixel lies inside: the share of the pixels at the maximum that do.

    #{p inside: s(p) = max s} / #{p: s(p) = max s}: 1 or 0, between them where the maximum is shared, as in
    maps of 8 bits. No tolerance around the truth. Undefined (NaN) where the truth is empty. Source: J. Zhang
    et al., IJCV 126 (2018) 1084-1102, who allow 15 pixels.

    Args:
        truth: bool, any shape.
        saliency: real numbers, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _refuse_shapes(truth, saliency)
    if not truth.any():
        return math.nan
    highest = saliency == saliency.max()
    return float(np.count_nonzero(highest & truth) / np.count_nonzero(highest))


def _refuse_shapes(truth: BoolArray, saliency: NDArray[Any]) -> None:
    if truth.shape != saliency.shape:
        raise ValueError(
            f"the mask and the saliency have shapes {truth.shape} and {saliency.shape}, expected the same"
        )

"""Presence as detection: is the target in the scan at all, and did the system say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def auroc(scores: Floats, present: Bools, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: how often a scan with the target has the higher score, ties counting half.

    sum over pairs of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum over pairs of w_i w_j, i with and j
    without the target. No unit; 0 to 1, 0.5 by chance; NaN where one of the classes has no weight. Source:
    J. A. Hanley, B. J. McNeil, Radiology 143 (1982) 29-36.

    Args:
        scores: float64 (N,).
        present: bool (N,), whether the target is there.
        weights: float64 (B, N), one row for each resample of a bootstrap; all one when None.

    Returns:
        float64 (B,), or (1,) without weights.
    """
    weights = _rows(weights, len(scores))
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(scores[order], return_index=True)
    if not len(first):
        return np.full(len(weights), np.nan)
    # Sums over scans of equal score, in rising order.
    positive = np.add.reduceat((weights * present)[:, order], first, axis=1)
    negative = np.add.reduceat((weights * ~present)[:, order], first, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _divide((positive * (below + negative / 2)).sum(axis=1), pairs)


def sensitivity(found: Bools, present: Bools, weights: Floats | None = None) -> Floats:
    """Share of the scans with the target in which it was found, TP / (TP + FN).

    No unit, 0 to 1; NaN without any such scan. Source: J. Yerushalmy, Public Health Reports 62 (1947)
    1432-1449.

    Args:
        found: bool (N,), the system's decision at its threshold.
        present: bool (N,), whether the target is there.
        weights: as of `auroc`.

    Returns:
        float64 (B,), or (1,) without weights.
    """
    weights = _rows(weights, len(found))
    return _divide(weights @ (found & present), weights @ present)


def specificity(found: Bools, present: Bools, weights: Floats | None = None) -> Floats:
    """Share of the scans without the target in which none was found, TN / (TN + FP).

    No unit, 0 to 1; NaN without any such scan. Arguments, result and source as of `sensitivity`.
    """
    weights = _rows(weights, len(found))
    return _divide(weights @ (~found & ~present), weights @ ~present)


def _rows(weights: Floats | None, count: int) -> Floats:
    return np.ones((1, count)) if weights is None else weights


def _divide(above: Floats, below: Floats) -> Floats:
    shares: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return shares

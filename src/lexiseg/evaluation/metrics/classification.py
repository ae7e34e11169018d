"""Is the target there: decisions, scores and calibrated claims of many scans against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class CalibrationBin:
    """Cases whose claims lie between two bounds.

    Attributes:
        low: the lower bound (inside the bin only of the first).
        high: the upper bound, inside.
        count: how many cases.
        claimed: their mean claim.
        observed: their mean outcome.
    """

    low: float
    high: float
    count: int
    claimed: float
    observed: float


def calibration_bins(claims: Floats, outcomes: Floats, *, bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Group cases by what was claimed, in bins of equal width; empty bins are left out.

    Args:
        claims: float64 (N,) in [0, 1].
        outcomes: float64 (N,) in [0, 1]: 0 and 1 for an event, or a quality such as Dice.
        bins: how many.

    Raises:
        ValueError: the lengths differ, or a claim lies outside [0, 1].
    """
    if claims.shape != outcomes.shape:
        raise ValueError(f"got {claims.size} claims and {outcomes.size} outcomes, expected as many")
    if claims.size and not (claims.min() >= 0 and claims.max() <= 1):
        raise ValueError(f"claims lie in {claims.min():g} to {claims.max():g}, expected 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, claims, side="left") - 1, 0, bins - 1)
    found = []
    for k in range(bins):
        inside = place == k
        if inside.any():
            claimed, observed = float(claims[inside].mean()), float(outcomes[inside].mean())
            found.append(CalibrationBin(float(edges[k]), float(edges[k + 1]), int(inside.sum()), claimed, observed))
    return tuple(found)


def calibration_error(claims: Floats, outcomes: Floats, *, bins: int = 10) -> float:
    """Expected calibration error: how far claims are from outcomes, over bins weighted by their cases.

    sum over bins of (n_b / N) |mean claim - mean outcome|. No unit, 0 (calibrated) to 1; NaN without cases.
    Presence is compared with whether the target is there; confidence with the case's Dice, which it stands
    for, an absent answer's being 1 or 0. Source: M. P. Naeini et al., AAAI (2015) 2901-2907.

    Arguments and errors as of `calibration_bins`.
    """
    found = calibration_bins(claims, outcomes, bins=bins)
    if not found:
        return float("nan")
    return sum(each.count * abs(each.claimed - each.observed) for each in found) / claims.size


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

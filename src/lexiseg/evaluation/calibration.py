"""Whether a number between 0 and 1 means what it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
            found.append(
                CalibrationBin(float(edges[k]), float(edges[k + 1]), int(inside.sum()), claimed, observed)
            )
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

"""Bootstrap intervals that keep a patient's images together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CELLS_AT_ONCE = 2**22


class Interval(NamedTuple):
    """Two ends; both NaN where there is no interval."""

    low: float
    high: float


NOWHERE = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """The percentile interval of a statistic over resamples of whole groups.

    Groups (patients) are drawn with replacement, as many as there are, and each brings all its cases; so
    images of one patient do not pass for independent. Equal groups and an equal seed give equal resamples,
    whatever the cases' order, so that intervals of several metrics belong together. Source: A. C. Davison,
    D. V. Hinkley, Bootstrap Methods and their Application (1997), 2.4 and 3.8.

    Attributes:
        resamples: how many.
        seed: of the draws.
        level: of the interval.
    """

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    def interval(self, groups: Sequence[str], statistic: Callable[[Floats], Floats]) -> Interval:
        """Resample a statistic.

        Args:
            groups: each case's group (N,).
            statistic: is given weights float64 (B, N), how often each case was drawn in each of B resamples,
                and returns float64 (B,); NaN where undefined, which is left out.

        Returns:
            The interval; NaN where there are fewer than two groups or no resample has a value.
        """
        names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        if len(names) < 2:
            return NOWHERE
        at_once = max(1, _CELLS_AT_ONCE // len(place))
        drawn = _drawn(len(names), self.resamples, self.seed)
        values = np.concatenate(
            [
                statistic(drawn[start : start + at_once, place].astype(np.float64))
                for start in range(0, self.resamples, at_once)
            ]
        )
        values = values[np.isfinite(values)]
        if not len(values):
            return NOWHERE
        tail = (1 - self.level) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(float(low), float(high))

    def ratio_interval(self, groups: Sequence[str], above: Floats, below: Floats) -> Interval:
        """The interval of sum(above) / sum(below) over cases.

        Args:
            groups: each case's group (N,).
            above: float64 (N,).
            below: float64 (N,), not negative.
        """

        def ratio(weights: Floats) -> Floats:
            total = weights @ below
            shares: Floats = np.divide(
                weights @ above, total, out=np.full(len(weights), np.nan), where=total > 0
            )
            return shares

        return self.interval(groups, ratio)


@lru_cache(maxsize=4)
def _drawn(groups: int, resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each group is drawn in each resample: int32 (resamples, groups), read-only."""
    drawn = np.zeros((resamples, groups), np.int32)
    random = np.random.default_rng(seed)
    for k in range(resamples):
        drawn[k] = np.bincount(random.integers(groups, size=groups), minlength=groups)
    drawn.flags.writeable = False
    return drawn

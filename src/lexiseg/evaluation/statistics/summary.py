"""One metric over many cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lexiseg.evaluation.statistics.bootstrap import NOWHERE, Bootstrap, Interval


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A metric's distribution over cases.

    Attributes:
        count: cases with a value.
        left_out: cases without (undefined).
        mean: over cases, each counting once.
        interval: of the mean, by `Bootstrap`.
        median: over cases.
        quartiles: the first and the third.
        pooled: sum of numerators / sum of denominators over all cases, large objects weighing more; NaN for
            metrics that are no such fraction.
        pooled_interval: of `pooled`, by the same resamples.
    """

    count: int
    left_out: int
    mean: float
    interval: Interval
    median: float
    quartiles: Interval
    pooled: float
    pooled_interval: Interval


def summarise(
    values: Sequence[float],
    groups: Sequence[str],
    *,
    fractions: Sequence[tuple[float, float]] | None = None,
    bootstrap: Bootstrap | None = None,
) -> Summary:
    """Mean, median, quartiles and pooled value with intervals.

    Args:
        values: one for each case (N,); NaN is left out and counted.
        groups: each case's group (N,).
        fractions: each case's numerator and denominator (N,), for the pooled value.
        bootstrap: how intervals are made; `Bootstrap()` when None.
    """
    bootstrap = bootstrap or Bootstrap()
    scores = np.asarray(values, np.float64)
    known = np.isfinite(scores)
    defined = scores[known]
    mean, median, quartiles, interval = math.nan, math.nan, NOWHERE, NOWHERE
    if len(defined):
        mean, median = float(defined.mean()), float(np.median(defined))
        low, high = np.quantile(defined, [0.25, 0.75])
        quartiles = Interval(float(low), float(high))
        interval = bootstrap.ratio_interval(groups, np.where(known, scores, 0), known.astype(np.float64))
    pooled, pooled_interval = math.nan, NOWHERE
    if fractions is not None and len(fractions):
        above, below = np.asarray(fractions, np.float64).T
        if below.sum() > 0:
            pooled = float(above.sum() / below.sum())
            pooled_interval = bootstrap.ratio_interval(groups, above, below)
    return Summary(
        count=len(defined),
        left_out=len(scores) - len(defined),
        mean=mean,
        interval=interval,
        median=median,
        quartiles=quartiles,
        pooled=pooled,
        pooled_interval=pooled_interval,
    )

"""A metric over cases, by bootstrap of groups, and two systems on the same cases, corrected for many pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
            shares: Floats = np.divide(weights @ above, total, out=np.full(len(weights), np.nan), where=total > 0)
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one system differs from another in a metric.

    Attributes:
        metric: the metric's key.
        first: a system's name.
        second: another's.
        cases: compared, those with a value of both.
        groups: of these cases; what the test counts as independent.
        difference: mean over cases of first - second.
        interval: of the difference, by `Bootstrap`.
        first_larger: cases where the first has the larger value.
        second_larger: cases where the second has.
        p: of the two-sided Wilcoxon signed-rank test over groups' mean differences; NaN with fewer than two.
        p_holm: `p` after Holm's correction over the pairs of systems; see `holm`.
        effect: see `rank_biserial`; positive where the first is larger.
    """

    metric: str
    first: str
    second: str
    cases: int
    groups: int
    difference: float
    interval: Interval
    first_larger: int
    second_larger: int
    p: float
    effect: float
    p_holm: float = math.nan


def compare_pairs(
    metric: str,
    values: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    *,
    bootstrap: Bootstrap | None = None,
) -> list[Comparison]:
    """Compare every two systems in a metric, case by case.

    Differences are averaged within a group first, since the test takes pairs for independent (F. Wilcoxon,
    Biometrics Bulletin 1 (1945) 80-83; zero differences are dropped, as there). P-values are corrected over
    all pairs of systems by Holm's method.

    Args:
        metric: the metric's key.
        values: by system, in the same order of cases (N,); NaN where undefined, which leaves the case out of
            that pair.
        groups: each case's group (N,).
        bootstrap: how intervals are made; `Bootstrap()` when None.

    Returns:
        One comparison for each two systems, in the order of `values`.
    """
    names = list(values)
    pairs = [(first, second) for k, first in enumerate(names) for second in names[k + 1 :]]
    found = []
    for first, second in pairs:
        change = np.asarray(values[first], np.float64) - np.asarray(values[second], np.float64)
        known = np.isfinite(change)
        kept = [group for group, keep in zip(groups, known, strict=True) if keep]
        change = change[known]
        by_group = _group_means(change, kept)
        total = summarise(change.tolist(), kept, bootstrap=bootstrap)
        found.append(
            Comparison(
                metric=metric,
                first=first,
                second=second,
                cases=len(change),
                groups=len(by_group),
                difference=total.mean,
                interval=total.interval,
                first_larger=int((change > 0).sum()),
                second_larger=int((change < 0).sum()),
                p=_wilcoxon(by_group),
                effect=rank_biserial(by_group),
            )
        )
    corrected = holm([each.p for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values that are looked at together.

    Sorted p_(1) <= ... <= p_(m): max over j <= i of min(1, (m - j + 1) p_(j)). NaN stays and does not count.
    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        corrected[place] = highest
    return corrected


def rank_biserial(differences: Floats) -> float:
    """Matched-pairs rank-biserial correlation: the share of rank sums that speaks for, less that against.

    (R+ - R-) / (R+ + R-), with R+ and R- the sums of the ranks of |d| where d > 0 and d < 0, zeros left out.
    No unit, -1 to 1; 0 where nothing differs. Source: D. S. Kerby, Comprehensive Psychology 3 (2014)
    11.IT.3.1.
    """
    from scipy.stats import rankdata

    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 0.0
    ranks = rankdata(np.abs(nonzero))
    return float((ranks[nonzero > 0].sum() - ranks[nonzero < 0].sum()) / ranks.sum())


def _group_means(values: Floats, groups: Sequence[str]) -> Floats:
    _, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if not len(place):
        return np.zeros(0)
    means: Floats = np.bincount(place, values) / np.bincount(place)
    # Sums that should cancel leave a last bit, which would pass for a difference of the smallest rank.
    means[np.abs(means) < 1e-12] = 0
    return means


def _wilcoxon(differences: Floats) -> float:
    from scipy.stats import wilcoxon

    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences, zero_method="wilcox").pvalue)

"""Two systems on the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lexiseg.evaluation.statistics.bootstrap import Bootstrap, Interval
from lexiseg.evaluation.statistics.summary import summarise

Floats = NDArray[np.float64]


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

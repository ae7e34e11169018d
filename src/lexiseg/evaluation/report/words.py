"""Numbers as text, the same in every format."""

from __future__ import annotations

import math

from lexiseg.evaluation.evaluation import EVERYTHING, Stratum
from lexiseg.evaluation.metrics import metric_of
from lexiseg.evaluation.statistics import Interval

NOTHING = "–"


def number(value: float, *, lower_is_better: bool = False) -> str:
    """Three decimals of a share, one of a distance; a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    return f"{value:.1f}" if lower_is_better else f"{value:.3f}"


def of_metric(key: str, value: float) -> str:
    """A metric's value."""
    return number(value, lower_is_better=metric_of(key).lower_is_better)


def bounds(key: str, interval: Interval) -> str:
    """An interval of a metric; "" where there is none."""
    if math.isnan(interval.low):
        return ""
    # A dash beside a minus sign would be read wrongly.
    between = "–" if interval.low >= 0 else " to "
    return f"{of_metric(key, interval.low)}{between}{of_metric(key, interval.high)}"


def signed(key: str, value: float) -> str:
    """A difference of a metric, with its sign."""
    text = of_metric(key, value)
    return text if math.isnan(value) or text.startswith("-") else f"+{text}"


def p_value(value: float) -> str:
    """Three decimals, or that it is below."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def named(stratum: Stratum) -> str:
    """A stratum for people."""
    return "all scans" if stratum == EVERYTHING else f"{stratum[0]}: {stratum[1]}"

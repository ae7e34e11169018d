"""The metrics by name: what they are called, which way is better, and what they are where a mask is empty.

With the rule "score", two empty masks have the best value (1, distances 0), and one empty mask has the worst (0,
distances the diagonal of the grid). With "skip", what is 0/0 or a distance to nothing is undefined and left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lexiseg.values.arrays import BoolArray


@dataclass(frozen=True)
class Metric:
    """A metric of one case.

    Attributes:
        key: its name in tables; distances end in their unit ("hd95_mm"), and NSD in its tolerance
            ("nsd_2mm"), so that millimetres and pixels never meet in one mean.
        title: its name for people.
        formula: in words or symbols.
        lower_is_better: True of distances.
        unit: "mm", "px", "ml" or "" for shares of one.
    """

    key: str
    title: str
    formula: str
    lower_is_better: bool = False
    unit: str = ""


METRICS: dict[str, tuple[str, str, bool]] = {
    "dice": ("Dice", "2 TP / (2 TP + FP + FN)", False),
    "iou": ("IoU", "TP / (TP + FP + FN)", False),
    "precision": ("Precision", "TP / (TP + FP)", False),
    "recall": ("Recall", "TP / (TP + FN)", False),
    "nsd": ("NSD", "share of both boundaries' pixels within the tolerance of the other", False),
    "hd95": ("HD95", "larger of the two directions' 95th percentile of boundary distances", True),
    "assd": ("ASSD", "mean distance over both boundaries' pixels", True),
    "volume_error": ("Volume error", "|V(prediction) - V(truth)|", True),
    "slice_sensitivity": ("Slice sensitivity", "share of slices with the target in which anything is drawn", False),
    "slice_specificity": ("Slice specificity", "share of slices without the target in which nothing is drawn", False),
    "box_iou": ("Box IoU", "mean IoU of true boxes with the predicted boxes matched to them", False),
    "saliency_auc": ("Saliency AUC", "how often a pixel inside is more salient than one outside", False),
    "pointing": ("Pointing game", "share of the most salient pixels that lie inside", False),
}
"""Title, formula and whether lower is better, by the key without its unit; in the order of tables."""


def metric_of(key: str) -> Metric:
    """The metric of a table's key, such as "dice", "nsd_2mm" or "hd95_px".

    Raises:
        KeyError: no such metric.
    """
    if key in METRICS:
        return Metric(key, *METRICS[key])
    base, _, rest = key.rpartition("_")
    title, formula, lower = METRICS[base]
    unit = rest[-2:]
    amount = f"{title} at {rest[:-2]} {unit}" if base == "nsd" else f"{title} ({unit})"
    return Metric(key, amount, formula, lower, unit if lower else "")


def in_order(keys: set[str]) -> list[str]:
    """Keys in the order of tables, mm before px."""
    names = list(METRICS)
    return sorted(keys, key=lambda key: (names.index(key if key in METRICS else key.rpartition("_")[0]), key))


def surface_keys(spacing: Sequence[float] | None, tolerance: float) -> dict[str, str]:
    """The tables' keys of the metrics of boundaries, with unit and tolerance."""
    unit = "px" if spacing is None else "mm"
    return {"nsd": f"nsd_{tolerance:g}{unit}", "hd95": f"hd95_{unit}", "assd": f"assd_{unit}"}


class EmptyRule(StrEnum):
    """What becomes of cases in which a mask is empty."""

    score = "score"
    skip = "skip"


class Emptiness(StrEnum):
    """Which of truth and prediction is empty."""

    neither = "neither"
    both = "both"
    truth = "truth"
    prediction = "prediction"


_ZERO_BY_FORMULA: dict[Emptiness, frozenset[str]] = {
    Emptiness.both: frozenset(),
    Emptiness.truth: frozenset({"dice", "iou", "precision", "nsd", "box_iou"}),
    Emptiness.prediction: frozenset({"dice", "iou", "recall", "nsd", "box_iou"}),
}
_DISTANCES = frozenset({"hd95", "assd"})


def emptiness_of(truth: BoolArray, prediction: BoolArray) -> Emptiness:
    """Which of two masks is empty."""
    has_truth, has_prediction = bool(np.any(truth)), bool(np.any(prediction))
    if has_truth:
        return Emptiness.neither if has_prediction else Emptiness.prediction
    return Emptiness.truth if has_prediction else Emptiness.both


def score_of_empty(metric: str, emptiness: Emptiness, *, rule: EmptyRule, diagonal: float) -> float:
    """A metric's value where a mask is empty.

    Args:
        metric: "dice", "iou", "precision", "recall", "nsd", "hd95", "assd" or "box_iou".
        emptiness: which mask is empty; not `neither`.
        rule: what to do about it.
        diagonal: of the grid, in the unit of distances; no distance can be larger.

    Returns:
        The value; NaN where it is undefined and left out.

    Raises:
        ValueError: no mask is empty.
    """
    if emptiness is Emptiness.neither:
        raise ValueError("neither mask is empty; the metric's formula holds")
    if rule is EmptyRule.skip:
        return 0.0 if metric in _ZERO_BY_FORMULA[emptiness] else math.nan
    if emptiness is Emptiness.both:
        return 0.0 if metric in _DISTANCES else 1.0
    return worst_score(metric, diagonal=diagonal)


def worst_score(metric: str, *, diagonal: float) -> float:
    """What a missing prediction scores: 0, or for a distance the diagonal of the grid."""
    return diagonal if metric in _DISTANCES else 0.0

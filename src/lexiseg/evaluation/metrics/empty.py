"""The rules for empty masks: what a metric is where its formula is 0/0 or a distance to nothing.

Every metric calls `score_of_empty` where one of the masks is empty, and has no rule of its own.

| truth | prediction | rule "score" | rule "skip" | |---|---|---|---| | empty | empty | the best value: 1,
distances 0 | undefined: the case is left out of that metric | | empty | not | the worst value: 0, distances
the grid's diagonal | 0 where the formula gives 0 (Dice, IoU, precision, NSD, box IoU), undefined for recall
and distances | | not | empty | the worst value | 0 where the formula gives 0 (Dice, IoU, recall, NSD, box
IoU), undefined for precision and distances |

"score" follows Metrics Reloaded (Maier-Hein et al., Nature Methods 2024), which gives an answer that is rightly
empty the best value and a wrong one the worst; no system gains by leaving a hard case empty. A prediction
that is missing has the worst value under both rules. How often each case occurs is counted in every report.
"""  # noqa: E501  (a table's row is one line)

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np

from lexiseg.scans.scan import BoolArray


class EmptyRule(StrEnum):
    """What becomes of cases in which a mask is empty; see the module's table."""

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

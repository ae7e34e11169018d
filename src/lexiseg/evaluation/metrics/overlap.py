"""Overlap of two masks, from counts of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lexiseg.values.arrays import BoolArray


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


@dataclass(frozen=True)
class Overlap:
    """Pixels (or voxels) of two masks of one grid.

    Attributes:
        both: in truth and prediction (true positives, TP).
        truth: in the truth (TP + FN).
        prediction: in the prediction (TP + FP).
    """

    both: int
    truth: int
    prediction: int

    @classmethod
    def of(cls, truth: BoolArray, prediction: BoolArray) -> Overlap:
        """Count.

        Args:
            truth: bool, any shape.
            prediction: bool, the same shape.

        Raises:
            ValueError: the shapes differ.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"the masks have shapes {truth.shape} and {prediction.shape}, expected the same")
        return cls(
            int(np.count_nonzero(truth & prediction)),
            int(np.count_nonzero(truth)),
            int(np.count_nonzero(prediction)),
        )

    @property
    def fractions(self) -> dict[str, tuple[int, int]]:
        """Numerator and denominator of each overlap metric: sums of both over a set give its pooled value."""
        either = self.truth + self.prediction - self.both
        return {
            "dice": (2 * self.both, self.truth + self.prediction),
            "iou": (self.both, either),
            "precision": (self.both, self.prediction),
            "recall": (self.both, self.truth),
        }


def dice(truth: BoolArray, prediction: BoolArray, *, empty: EmptyRule = EmptyRule.score) -> float:
    """Dice similarity coefficient, 2 TP / (2 TP + FP + FN).

    No unit, 0 (disjoint) to 1 (equal). Empty masks: see `lexiseg.evaluation.metrics.overlap`. Source: L. R.
    Dice, Ecology 26 (1945) 297-302.

    Args:
        truth: bool, any shape.
        prediction: bool, the same shape.
        empty: the rule for empty masks.

    Raises:
        ValueError: the shapes differ.
    """
    return _ratio("dice", truth, prediction, empty)


def iou(truth: BoolArray, prediction: BoolArray, *, empty: EmptyRule = EmptyRule.score) -> float:
    """Intersection over union (Jaccard index), TP / (TP + FP + FN) = Dice / (2 - Dice).

    No unit, 0 (disjoint) to 1 (equal). Empty masks: see `lexiseg.evaluation.metrics.overlap`. Source: P.
    Jaccard, New Phytologist 11 (1912) 37-50. Arguments and errors as of `dice`.
    """
    return _ratio("iou", truth, prediction, empty)


def precision(truth: BoolArray, prediction: BoolArray, *, empty: EmptyRule = EmptyRule.score) -> float:
    """Share of the prediction that is right, TP / (TP + FP); positive predictive value.

    No unit, 0 to 1. Empty masks: see `lexiseg.evaluation.metrics.overlap`; an empty prediction of a truth that
    is not empty is 0/0. Source: Metrics Reloaded (Maier-Hein et al., Nature Methods 2024). Arguments and
    errors as of `dice`.
    """
    return _ratio("precision", truth, prediction, empty)


def recall(truth: BoolArray, prediction: BoolArray, *, empty: EmptyRule = EmptyRule.score) -> float:
    """Share of the truth that was found, TP / (TP + FN); sensitivity of pixels.

    No unit, 0 to 1. Empty masks: see `lexiseg.evaluation.metrics.overlap`; an empty truth is 0/0. Source:
    Metrics Reloaded (Maier-Hein et al., Nature Methods 2024). Arguments and errors as of `dice`.
    """
    return _ratio("recall", truth, prediction, empty)


def _ratio(metric: str, truth: BoolArray, prediction: BoolArray, empty: EmptyRule) -> float:
    above, below = Overlap.of(truth, prediction).fractions[metric]
    if truth.any() and prediction.any():
        return above / below
    return score_of_empty(metric, emptiness_of(truth, prediction), rule=empty, diagonal=math.nan)

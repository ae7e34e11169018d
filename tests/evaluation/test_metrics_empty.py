from __future__ import annotations

import math

import numpy as np
import pytest

from lexiseg.evaluation.metrics.catalogue import Emptiness, EmptyRule, score_of_empty
from lexiseg.evaluation.metrics.localisation import score_boxes
from lexiseg.evaluation.metrics.masks import score_mask, worst_mask_score

EMPTY = np.zeros((30, 40), bool)
DISC = np.zeros((30, 40), bool)
DISC[10:20, 10:25] = True
DIAGONAL = 50.0
SKIP = EmptyRule.skip


def values(truth: np.ndarray, prediction: np.ndarray, rule: EmptyRule = EmptyRule.score) -> dict[str, float]:
    found = score_mask(truth, prediction, empty=rule).values
    return {key.partition("_")[0]: value for key, value in found.items()}


class TestScore:
    def test_both_empty_is_perfect(self) -> None:
        found = values(EMPTY, EMPTY)
        assert found == {"dice": 1, "iou": 1, "precision": 1, "recall": 1, "nsd": 1, "hd95": 0, "assd": 0}

    @pytest.mark.parametrize("masks", [(DISC, EMPTY), (EMPTY, DISC)])
    def test_one_empty_is_worst(self, masks: tuple[np.ndarray, np.ndarray]) -> None:
        found = values(*masks)
        assert {found.pop("hd95"), found.pop("assd")} == {DIAGONAL}
        assert set(found.values()) == {0}

    def test_the_diagonal_is_in_mm(self) -> None:
        found = score_mask(DISC, EMPTY, spacing=(2.0, 2.0)).values
        assert found["hd95_mm"] == 2 * DIAGONAL


class TestSkip:
    def test_both_empty_is_undefined(self) -> None:
        assert all(math.isnan(value) for value in values(EMPTY, EMPTY, SKIP).values())

    def test_truth_empty(self) -> None:
        found = values(EMPTY, DISC, SKIP)
        assert {key for key, value in found.items() if math.isnan(value)} == {"recall", "hd95", "assd"}
        assert {value for value in found.values() if not math.isnan(value)} == {0}

    def test_prediction_empty(self) -> None:
        found = values(DISC, EMPTY, SKIP)
        assert {key for key, value in found.items() if math.isnan(value)} == {"precision", "hd95", "assd"}


class TestMissing:
    @pytest.mark.parametrize("truth", [DISC, EMPTY])
    def test_is_worst_even_where_nothing_is_there(self, truth: np.ndarray) -> None:
        found = {key.partition("_")[0]: value for key, value in worst_mask_score(truth).values.items()}
        assert found["hd95"] == found["assd"] == DIAGONAL
        assert {found[key] for key in ("dice", "iou", "precision", "recall", "nsd")} == {0}

    def test_weighs_in_the_pool_with_its_truth(self) -> None:
        assert worst_mask_score(DISC).fractions["dice"] == (0, DISC.sum())


class TestBoxes:
    def test_absent_and_left_empty(self) -> None:
        assert score_boxes((), EMPTY) == 1
        assert score_boxes((), DISC) == 0
        assert score_boxes(((1, 1, 5, 5),), EMPTY) == 0
        assert math.isnan(score_boxes((), EMPTY, empty=SKIP))


def test_a_rule_for_full_masks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="neither mask is empty"):
        score_of_empty("dice", Emptiness.neither, rule=SKIP, diagonal=1)

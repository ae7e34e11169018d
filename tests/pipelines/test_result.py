from __future__ import annotations

import numpy as np
import pytest

from lexiseg.pipelines.results import MAX_LABELS, TargetResult, Result, dice, label_map
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import Mask


def row(*values: int) -> BoolArray:
    return np.array([values], np.bool_)


def finding(phrase: str, *, present: bool = True) -> TargetResult:
    return TargetResult(phrase, row(present, 0), present, 0.9, 0.8)


class TestLabelMap:
    def test_masks_apart_are_numbered_in_order(self) -> None:
        ones = np.ones((1, 4), np.float32)
        mask = label_map([row(1, 0, 0, 0), row(0, 0, 1, 1)], [ones, ones], ("a", "b"))
        assert mask.labels.tolist() == [[1, 0, 2, 2]]
        assert mask.labels.dtype == np.uint8
        assert mask.of("b").tolist() == [[False, False, True, True]]

    def test_where_they_overlap_the_larger_weight_wins_pixel_by_pixel(self) -> None:
        weights = [np.array([[0.9, 0.2, 0.9]]), np.array([[0.1, 0.8, 1.0]])]
        assert label_map([row(1, 1, 1), row(1, 1, 0)], weights, ("a", "b")).labels.tolist() == [[1, 2, 1]]

    def test_at_equal_weight_the_earlier_phrase_wins(self) -> None:
        same = np.full((1, 2), 0.5)
        masks = [row(0, 0), row(1, 1), row(1, 1)]
        assert label_map(masks, [same] * 3, ("a", "b", "c")).labels.tolist() == [[2, 2]]

    def test_a_weight_of_nothing_still_marks(self) -> None:
        zero = np.zeros((1, 2))
        assert label_map([row(1, 0), row(0, 0)], [zero, zero], ("a", "b")).labels.tolist() == [[1, 0]]

    def test_volumes(self) -> None:
        one, two = np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
        one[0], two[1] = True, True
        labels = label_map([one, two], [np.ones(one.shape)] * 2, ("a", "b")).labels
        assert labels.shape == (2, 3, 4)
        assert (np.unique(labels[0]).tolist(), np.unique(labels[1]).tolist()) == ([1], [2])

    def test_the_last_label_of_a_byte_and_no_more(self) -> None:
        masks = [row(k == MAX_LABELS - 1) for k in range(MAX_LABELS + 1)]
        weights = [np.ones((1, 1))] * len(masks)
        names = tuple(map(str, range(len(masks))))
        assert label_map(masks[:-1], weights[:-1], names[:-1]).labels.item() == 255
        with pytest.raises(ValueError, match="256 masks, expected at most 255"):
            label_map(masks, weights, names)


class TestDice:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            (row(1, 1, 0), row(1, 1, 0), 1.0),
            (row(1, 1, 0), row(0, 1, 1), 0.5),
            (row(1, 0, 0), row(0, 1, 1), 0.0),
            (row(1, 0, 0), row(0, 0, 0), 0.0),
            (row(0, 0, 0), row(0, 1, 0), 0.0),
            (row(0, 0, 0), row(0, 0, 0), 1.0),
        ],
    )
    def test_overlap_over_both(self, first: BoolArray, second: BoolArray, expected: float) -> None:
        assert dice(first, second) == expected


class TestResult:
    RESULT = Result("x", (finding("left lung"), finding("tumor", present=False)), Mask(np.zeros((1, 2), np.uint8), ()))

    def test_a_phrase_has_its_finding(self) -> None:
        assert self.RESULT["tumor"] is self.RESULT.targets[1]
        assert self.RESULT["  left   lung "] is self.RESULT.targets[0]

    def test_another_phrase_has_none(self) -> None:
        with pytest.raises(KeyError, match="heart"):
            self.RESULT["heart"]

    def test_present_where_any_phrase_is(self) -> None:
        assert self.RESULT.present
        assert not Result("x", (finding("a", present=False),), self.RESULT.mask).present
        assert not Result("x", (), self.RESULT.mask).present

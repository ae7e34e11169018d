from __future__ import annotations

import doctest

import numpy as np
import pytest

from lexiseg.values import overlap
from lexiseg.values.overlap import dice, expected_dice, overlap_coefficient, soft_dice

RNG = np.random.default_rng(11)
MASKS = [RNG.random((9, 12)) < share for share in (0.0, 0.1, 0.5, 1.0)]
EMPTY = np.zeros((9, 12), bool)
PAIRS = [(first, second) for first in MASKS for second in MASKS]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_dice_is_that_of_scipy(first: np.ndarray, second: np.ndarray) -> None:
    from scipy.spatial.distance import dice as dissimilarity

    expected = 1 - dissimilarity(first.ravel(), second.ravel()) if first.any() or second.any() else 1
    assert dice(first, second) == pytest.approx(expected, abs=1e-12)


def test_two_empty_masks_score_what_the_caller_says() -> None:
    assert dice(EMPTY, EMPTY) == 1
    assert dice(EMPTY, EMPTY, empty=0.0) == 0
    assert dice(EMPTY, ~EMPTY, empty=1.0) == 0


def test_dice_refuses_shapes_that_numpy_would_spread() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        dice(EMPTY, EMPTY[:1])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_soft_dice_of_a_mask_is_dice(first: np.ndarray, second: np.ndarray) -> None:
    assert soft_dice(first.astype(np.float32), second) == dice(first, second, empty=0.0)


def test_expected_dice_is_soft_dice_of_all_slices() -> None:
    maps = RNG.random((3, 9, 12))
    masks = maps > 0.6
    assert expected_dice(list(maps), list(masks)) == pytest.approx(soft_dice(maps, masks), abs=1e-12)
    assert expected_dice([np.zeros((2, 2))], [np.zeros((2, 2), bool)]) == 0


def test_the_overlap_coefficient_of_a_part_is_1() -> None:
    part = MASKS[2] & MASKS[1]
    assert overlap_coefficient(part, MASKS[2]) == overlap_coefficient(MASKS[2], part) == 1
    assert overlap_coefficient(EMPTY, MASKS[2]) == 0


def test_the_examples_hold() -> None:
    assert doctest.testmod(overlap, extraglobs={"np": np}).failed == 0

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.values import masks
from lexiseg.values.masks import box_of


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_a_box_holds_its_mask_and_no_empty_edge(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rows, columns = np.nonzero(mask)
    if not len(rows):
        assert box_of(mask) == (0, 0, 0, 0)
        return
    assert box_of(mask) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_examples() -> None:
    assert doctest.testmod(masks).failed == 0

"""Outlines of masks: rasterised again they are the mask, whichever rule fills them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Polygon
from skimage.draw import polygon2mask

from lexiseg.io.dicom.contours import outlines

SMALL = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def crossings(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How often a ray from each pixel's centre to the left crosses a polygon."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    count = np.zeros(shape, int)
    for (row, column), (to_row, to_column) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if row != to_row:
            passes = (rows >= min(row, to_row)) & (rows < max(row, to_row))
            at = column + (rows - row) / (to_row - row) * (to_column - column)
            count += passes & (at < columns)
    return count


class TestRasterised:
    @settings(max_examples=120, deadline=None)
    @given(SMALL)
    def test_polygon_by_polygon_and_all_by_even_and_odd(self, mask: np.ndarray) -> None:
        counts = [crossings(polygon, mask.shape) for polygon in outlines(mask)]
        joined = np.zeros(mask.shape, bool)
        for count in counts:
            joined |= count % 2 == 1
        np.testing.assert_array_equal(joined, mask)
        np.testing.assert_array_equal(sum(counts, np.zeros(mask.shape, int)) % 2 == 1, mask)

    @settings(max_examples=60, deadline=None)
    @given(SMALL)
    def test_by_scikit_image(self, mask: np.ndarray) -> None:
        found = np.zeros(mask.shape, bool)
        for polygon in outlines(mask):
            found |= polygon2mask(mask.shape, polygon)
        np.testing.assert_array_equal(found, mask)

    def test_by_matplotlib_which_winds(self) -> None:
        """Its rule is the winding number: a keyhole's hole has none."""
        mask = np.zeros((9, 9), bool)
        mask[1:8, 1:8] = True
        mask[3:6, 2:4] = mask[4, 5] = False
        (polygon,) = outlines(mask)
        centres = np.argwhere(np.ones_like(mask))
        found = Polygon(polygon).contains_points(centres).reshape(mask.shape)
        np.testing.assert_array_equal(found, mask)


class TestShape:
    def test_no_centre_is_near_a_line(self) -> None:
        mask = np.random.default_rng(0).random((14, 14)) > 0.45
        centres = np.argwhere(np.ones_like(mask)).astype(float)
        for polygon in outlines(mask):
            for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                way = end - start
                share = np.clip((centres - start) @ way / max(way @ way, 1e-12), 0, 1)
                assert np.linalg.norm(centres - start - share[:, None] * way, axis=1).min() > 1 / 3

    def test_a_rectangle_is_half_a_pixel_around_its_centres(self) -> None:
        mask = np.zeros((8, 9), bool)
        mask[2:5, 3:8] = True
        (polygon,) = outlines(mask)
        assert polygon.min(axis=0).tolist() == [1.5, 2.5]
        assert polygon.max(axis=0).tolist() == [4.5, 7.5]
        # Four straight sides, and four corners that are cut.
        assert len(polygon) == 8

    def test_a_hole_is_in_its_outline(self) -> None:
        mask = np.ones((9, 9), bool)
        mask[4, 4] = False
        assert len(outlines(mask)) == 1

    def test_pixels_that_touch_at_a_corner_have_their_own(self) -> None:
        assert len(outlines(np.eye(3, dtype=bool))) == 3

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
    def test_at_the_border(self, shape: tuple[int, int]) -> None:
        (polygon,) = outlines(np.ones(shape, bool))
        assert polygon.min(axis=0).tolist() == [-0.5, -0.5]

    def test_nothing_has_none(self) -> None:
        assert outlines(np.zeros((4, 4), bool)) == []

"""Changes of masks as bits: exact, reversible, small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lexiseg.session.deltas import Bits, Delta, Grid, squeeze, unsqueeze
from lexiseg.values.geometry import Geometry, PlaneAxes
from lexiseg.values.masks import box_of

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


def body(shape: tuple[int, int, int] = (4, 5, 6)) -> dict[str, PlaneAxes]:
    """The three directions of an oblique grid, some of which run backwards."""
    affine = np.array([[0.1, 0, 2, 0], [-1.0, 0.1, 0, 0], [0, -1.0, 0.1, 0], [0, 0, 0, 1]])
    geometry = Geometry(shape, affine)
    return {name: geometry.plane_axes(name) for name in ("axial", "coronal", "sagittal")}


@given(masks)
def test_bits_come_back(mask: np.ndarray) -> None:
    bits = Bits.from_dict(Bits.of(mask).as_dict())
    x0, y0, x1, y1 = bits.box
    whole = np.zeros_like(mask)
    whole[y0:y1, x0:x1] = bits.inside()
    np.testing.assert_array_equal(whole, mask)
    assert bits.box == box_of(mask)


@given(hnp.arrays(np.bool_, hnp.array_shapes(max_dims=3, max_side=9)))
def test_squeezed_masks_come_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(unsqueeze(squeeze(mask), mask.shape), mask)


def test_squeezed_bits_of_another_shape_are_refused() -> None:
    text = squeeze(np.ones((40, 40), np.bool_))
    with pytest.raises(ValueError, match="expected 2"):
        unsqueeze(text, (3, 3))
    with pytest.raises(ValueError, match="damaged"):
        unsqueeze("AAAA", (3, 3))


def test_a_large_mask_is_small() -> None:
    mask = np.zeros((64, 256, 256), np.bool_)
    mask[20:40, 60:180, 50:190] = True
    assert len(squeeze(mask)) < mask.size / 500


class TestGrid:
    @given(st.integers(0, 2**32 - 1))
    def test_deltas_of_any_axis_undo_themselves_and_the_counts_stay_right(self, seed: int) -> None:
        rng, axes = np.random.default_rng(seed), body()
        grid = Grid(rng.random((4, 5, 6)) < 0.3, axes)
        before, done = grid.voxels.copy(), []
        for _ in range(4):
            axis = str(rng.choice(list(axes)))
            index = int(rng.integers(grid.voxels.shape[axes[axis].axes[0]]))
            plane = grid.plane(axis, index).copy()
            wanted = rng.random(plane.shape) < 0.5
            delta = Delta.between(axis, index, plane, wanted)
            if delta is None:
                continue
            grid.flip(Delta.from_dict(delta.as_dict()))
            np.testing.assert_array_equal(grid.plane(axis, index), wanted)
            done.append(delta)
            for name, each in axes.items():
                expected = [k for k, cut in enumerate(each.cut(grid.voxels)) if cut.any()]
                assert grid.filled(name) == expected
            assert grid.total == grid.voxels.sum()
        for delta in reversed(done):
            grid.flip(delta)
        np.testing.assert_array_equal(grid.voxels, before)
        assert grid.total == before.sum()

    def test_nothing_differs(self) -> None:
        mask = np.ones((3, 3), np.bool_)
        assert Delta.between("axial", 0, mask, mask.copy()) is None

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import UnreadableScan
from lexiseg.io.masks import read_stored

MASK = np.random.default_rng(5).random((12, 17)) > 0.5


def png(values: np.ndarray, path: Path) -> Path:
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


class TestBinary:
    @pytest.mark.parametrize("value", [1, 7, 255])
    def test_zero_and_one_other(self, tmp_path: Path, value: int) -> None:
        np.testing.assert_array_equal(read_stored(png(MASK * value, tmp_path / "m.png")).decided().mask, MASK)

    @pytest.mark.parametrize("mask", [MASK & False, MASK | True])
    def test_empty_and_full(self, tmp_path: Path, mask: np.ndarray) -> None:
        np.testing.assert_array_equal(read_stored(png(mask * 255, tmp_path / "m.png")).decided().mask, mask)

    def test_refuses_a_third_value(self, tmp_path: Path) -> None:
        values = MASK * 255
        values[0, 0] = 3
        with pytest.raises(UnreadableScan, match=r"m\.png: it holds 3 values, 0, 3 and 255"):
            read_stored(png(values, tmp_path / "m.png")).decided()

    @pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
    def test_refuses_what_is_no_inside(self, make_nifti: Callable[..., Path], value: float) -> None:
        voxels = np.zeros((4, 5, 6), np.float32)
        voxels[1, 1, 1] = value
        with pytest.raises(UnreadableScan, match="expected 0 and one other"):
            read_stored(make_nifti(voxels)).decided()


class TestPlace:
    def test_a_volume_knows_where_it_lies(self, make_nifti: Callable[..., Path]) -> None:
        affine = np.array([[0, 0, 3.0, 5], [-0.5, 0, 0, 6], [0, 0.7, 0, 7], [0, 0, 0, 1]])
        stored = read_stored(make_nifti(np.ones((4, 5, 6), np.uint8), affine))
        assert stored.geometry is not None
        assert stored.spacing == pytest.approx((3.0, 0.7, 0.5))
        assert stored.values.shape == (6, 5, 4)

    def test_how_far_grids_lie_apart(self, make_nifti: Callable[..., Path]) -> None:
        ones = np.ones((4, 5, 6), np.uint8)
        first = read_stored(make_nifti(ones, np.eye(4))).geometry
        moved = np.eye(4)
        moved[1, 3] = 2
        second = read_stored(make_nifti(ones, moved, "moved.nii")).geometry
        assert first is not None
        assert second is not None
        assert (first.distance(second), first.distance(first)) == (2, 0)

    def test_an_image_has_no_place(self, tmp_path: Path) -> None:
        stored = read_stored(png(MASK * 9, tmp_path / "m.png"))
        assert (stored.geometry, stored.spacing) == (None, None)
        assert set(np.unique(stored.values)) == {0, 9}

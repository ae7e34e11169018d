from __future__ import annotations

import numpy as np
import pytest

from lexiseg.errors import UnreadableScan
from lexiseg.io.intensities import grey_if_equal, robust_range, to_unit


class TestRobustRange:
    def test_is_numpy_percentiles(self, rng: np.random.Generator) -> None:
        values = rng.normal(size=(40, 50))
        assert robust_range(values) == tuple(np.percentile(values, (0.5, 99.5)))

    def test_passes_over_what_is_not_finite(self, rng: np.random.Generator) -> None:
        values = rng.normal(size=1000)
        holed = np.concatenate([values, [np.nan, np.inf, -np.inf]])
        assert robust_range(holed) == robust_range(values)

    def test_one_bright_pixel_in_a_flat_image(self) -> None:
        values = np.zeros((100, 100))
        values[3, 4] = 5
        assert robust_range(values) == (0, 5)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_refuses_one_value(self, dtype: type) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            robust_range(np.full((5, 5), 7, dtype))

    def test_refuses_nothing_finite(self) -> None:
        with pytest.raises(UnreadableScan, match="no pixel is a finite number"):
            robust_range(np.full((5, 5), np.nan))


class TestToUnit:
    def test_maps_and_clips(self) -> None:
        unit = to_unit(np.array([[-5.0, 0, 5, 10, 15, np.nan, np.inf, -np.inf]]), 0, 10)
        assert unit.dtype == np.float32
        np.testing.assert_array_equal(unit, [[0, 0, 0.5, 1, 1, 0, 1, 0]])

    def test_slabs_are_seamless(self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
        values = rng.normal(size=(7, 5, 3))
        whole = to_unit(values, -1, 1)
        monkeypatch.setattr("lexiseg.io.intensities._SLAB", 30)
        np.testing.assert_array_equal(to_unit(values, -1, 1), whole)

    def test_extremes_of_float32_do_not_overflow(self) -> None:
        top = float(np.finfo(np.float32).max)
        np.testing.assert_array_equal(to_unit(np.array([-top, 0, top], np.float32), -top, top), [0, 0.5, 1])

    def test_refuses_what_float64_cannot_span(self) -> None:
        with pytest.raises(UnreadableScan, match="wider than float64"):
            to_unit(np.array([-1.7e308, 1.7e308]), -1.7e308, 1.7e308)


class TestGreyIfEqual:
    def test_equal_channels_become_one(self, rng: np.random.Generator) -> None:
        grey = rng.random((4, 5), np.float32)
        np.testing.assert_array_equal(grey_if_equal(np.stack([grey] * 3, axis=2)), grey)

    def test_one_different_pixel_keeps_colour(self) -> None:
        colour = np.zeros((4, 5, 3), np.float32)
        colour[1, 1, 2] = 0.1
        assert grey_if_equal(colour).shape == (4, 5, 3)

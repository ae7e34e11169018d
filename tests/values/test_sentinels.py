from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.values.sentinels import PADDING_NUMBERS, stored_top, without_sentinels

RNG = np.random.default_rng(3)
TISSUE = RNG.integers(-120, 400, (40, 50)).astype(np.int16)


def padded(values: np.ndarray, number: float, rows: int = 10) -> np.ndarray:
    values = values.copy()
    values[:rows] = number
    return values


class TestWithoutSentinels:
    @pytest.mark.parametrize("number", [-1024, -2000, -3024, -9999, -32768])
    @pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
    def test_padding_far_below_tissue_is_taken_out(self, number: int, dtype: type) -> None:
        values = padded(TISSUE.astype(dtype), number)
        cleaned, note = without_sentinels(values)
        assert note == f"500 of {number}, outside the range of the rest: not counted, shown black"
        np.testing.assert_array_equal(np.isnan(cleaned), values == number)
        np.testing.assert_array_equal(cleaned[10:], values[10:])

    def test_the_array_itself_is_not_changed(self) -> None:
        values = padded(TISSUE.astype(np.float32), -9999)
        without_sentinels(values)
        assert values.min() == -9999

    def test_air_beside_lungs_stays(self) -> None:
        values = padded(RNG.integers(-1000, 1500, (40, 50)).astype(np.int16), -1024)
        assert without_sentinels(values)[0] is values

    def test_black_background_at_zero_stays(self) -> None:
        values = padded(RNG.integers(500, 900, (40, 50)).astype(np.int16), 0)
        assert without_sentinels(values)[0] is values

    def test_two_values_are_a_mask(self) -> None:
        values = padded(np.ones((20, 20), np.float32), -9999)
        assert without_sentinels(values)[0] is values

    def test_two_numbers_one_below_the_other(self) -> None:
        values = padded(padded(TISSUE, -3024, 10), -9999, 4)
        cleaned, note = without_sentinels(values)
        assert int(np.isnan(cleaned).sum()) == 500
        assert "200 of -9999 and 300 of -3024" in note

    def test_the_largest_of_floats(self) -> None:
        values = padded(TISSUE.astype(np.float32), np.finfo(np.float32).max)
        assert int(np.isnan(without_sentinels(values)[0]).sum()) == 500

    def test_a_padding_number_in_the_other_signedness(self) -> None:
        values = padded(RNG.integers(0, 1200, (40, 50)).astype(np.uint16), 2**16 - 3024)
        assert int(np.isnan(without_sentinels(values)[0]).sum()) == 500

    @pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32])
    def test_the_largest_of_an_integer_type(self, dtype: type) -> None:
        values = padded(RNG.integers(0, 1200, (40, 50)).astype(dtype), np.iinfo(dtype).max)
        assert int(np.isnan(without_sentinels(values)[0]).sum()) == 500

    def test_a_padding_number_by_slope_and_intercept(self) -> None:
        values = padded(TISSUE.astype(np.float32), np.float32(-3024.001))
        assert int(np.isnan(without_sentinels(values)[0]).sum()) == 500

    def test_one_hot_pixel_is_none(self) -> None:
        values = TISSUE.copy()
        values[0, 0] = -7000
        assert without_sentinels(values)[0] is values

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8])
    def test_eight_bits_hold_none(self, dtype: type) -> None:
        values = padded((TISSUE % 5).astype(dtype), np.iinfo(dtype).min)
        assert without_sentinels(values)[0] is values

    def test_nan_and_infinity_are_not_looked_at(self) -> None:
        values = padded(TISSUE.astype(np.float32), -9999)
        values[20] = np.nan
        values[21] = np.inf
        values[22] = -np.inf
        assert int(np.isnan(without_sentinels(values)[0]).sum()) == 550

    @given(
        st.sampled_from(sorted(PADDING_NUMBERS)),
        st.integers(-900, 0),
        st.integers(2, 900),
        st.integers(1, 30),
    )
    def test_what_is_no_sentinel_keeps_its_value(self, number: int, low: int, width: int, rows: int) -> None:
        values = padded(
            np.random.default_rng(width).integers(low, low + width, (40, 50)).astype(np.int32), number, rows
        )
        cleaned, note = without_sentinels(values)
        np.testing.assert_array_equal(cleaned[rows:], values[rows:])
        rest = values[rows:]
        if rest.min() - number > 0.1 * (rest.max() - rest.min()) and rest.min() < rest.max():
            assert note
            assert np.isnan(cleaned[:rows]).all()


class TestStoredTop:
    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    def test_the_bits_in_use(self, bits: int) -> None:
        samples = RNG.integers(0, 2**bits, (50, 50, 3)).astype(np.uint16)
        assert stored_top(samples)[0] == 2**bits - 1

    @pytest.mark.parametrize(("factor", "top"), [(257, 65535), (256, 65280)])
    def test_widened_bytes_are_bytes(self, factor: int, top: int) -> None:
        grey = np.arange(256, dtype=np.uint16)
        found, _ = stored_top(grey * np.uint16(factor))
        assert found == top
        np.testing.assert_array_equal(grey.astype(int) * factor / found, grey / 255)

    def test_a_few_bright_letters_do_not_count(self) -> None:
        samples = RNG.integers(0, 4096, (50, 50)).astype(np.uint16)
        samples[0, :5] = 65535
        assert stored_top(samples) == (4095, "12 bits in words of 16")

    def test_a_header_is_believed_unless_the_picture_would_be_black(self) -> None:
        samples = RNG.integers(0, 1000, (50, 50)).astype(np.uint16)
        assert stored_top(samples, declared=4095) == (4095, "")
        assert stored_top(samples, declared=65535) == (1023, "10 bits in words of 16")

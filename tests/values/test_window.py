"""From units to grey: DICOM's windows against pydicom, percentiles, and what a window setting may be."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.values.window import (
    NAMED_WINDOWS,
    DicomWindow,
    ValueRange,
    apply_window,
    check_window,
    choose_window,
    refuse_flat_values,
    robust_range,
    to_unit,
)

EXAMPLES = settings(max_examples=60, deadline=None)
CT = np.array([[[-1000, -600, 40], [400, 80, 3000]]], np.int16)
MR = np.array([[[0, 10, 20], [300, 400, 500]]], np.int16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def choose(setting: str, values: np.ndarray = CT, **more: Any) -> Any:
    return choose_window(check_window(setting), values, **{"own": None, "unit": "HU", "name": "a", **more})


class TestApplyWindow:
    @pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # pydicom's
    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(("centre", "width"), [(40.0, 400.0), (-600.5, 1500.0), (128, 2), (0, 1)])
    def test_agrees_with_pydicom(self, function: str, centre: float, width: float) -> None:
        dataset = Dataset()
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelRepresentation, dataset.BitsStored = 0, 8
        dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = centre, width, function
        values = np.arange(-1200, 1200)
        np.testing.assert_allclose(
            apply_window(values, centre, width, function), apply_windowing(values, dataset) / 255, atol=1e-6
        )

    def test_ends_of_the_standard_example(self) -> None:
        """PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0 to the lowest and 4095 to the highest output."""
        np.testing.assert_array_equal(apply_window(np.array([0, 4095]), 2048, 4096), [0, 1])

    def test_far_values_do_not_overflow(self) -> None:
        np.testing.assert_array_equal(apply_window(np.array([-1e9, 1e9]), 0, 1, "SIGMOID"), [0, 1])

    def test_what_is_no_number_is_black(self) -> None:
        values = np.array([np.nan, -np.inf, np.inf], np.float32)
        for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            np.testing.assert_array_equal(apply_window(values, 40, 400, function), [0, 0, 1])
        np.testing.assert_array_equal(apply_window(values, 40, 1), [0, 0, 1])

    @pytest.mark.parametrize(
        ("width", "function"), [(0.5, "LINEAR"), (0, "SIGMOID"), (-1, "LINEAR_EXACT"), (10, "CUBIC")]
    )
    def test_refuses_what_the_standard_does_not_define(self, width: float, function: str) -> None:
        with pytest.raises(ValueError, match=r"not defined|not LINEAR"):
            apply_window(np.arange(5), 0, width, function)

    @pytest.mark.parametrize(("centre", "width"), [(np.nan, 400), (40, np.inf), (np.inf, 400)])
    def test_refuses_what_is_not_finite(self, centre: float, width: float) -> None:
        with pytest.raises(ValueError, match="not defined"):
            apply_window(np.arange(5), centre, width)

    @EXAMPLES
    @given(
        hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(-4000, 4000, width=32)),
        st.floats(-2000, 2000),
        st.floats(1, 5000),
        st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    )
    def test_is_in_range_and_never_falls(self, values: np.ndarray, centre: float, width: float, function: str) -> None:
        shown = apply_window(values, centre, width, function)
        assert shown.dtype == np.float32 and shown.shape == values.shape
        assert 0 <= shown.min() <= shown.max() <= 1
        order = np.argsort(values, axis=None, kind="stable")
        assert (np.diff(shown.ravel()[order]) >= 0).all()


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

    def test_large_arrays_are_sampled_as_they_lie_in_memory(
        self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lexiseg.values.window._SAMPLE", 100)
        values = rng.normal(size=(7, 8, 9))
        expected = tuple(np.percentile(values.ravel()[::6], (0.5, 99.5)))
        assert robust_range(values) == expected
        # A view with its axes in another order is the same scan.
        assert robust_range(values.transpose(2, 0, 1)) == expected

    @pytest.mark.parametrize("check", [robust_range, refuse_flat_values])
    @pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
    def test_refuses_one_value(self, check: Any, dtype: type) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            check(np.full((5, 5), 7, dtype))

    @pytest.mark.parametrize("check", [robust_range, refuse_flat_values])
    def test_refuses_nothing_finite(self, check: Any) -> None:
        with pytest.raises(UnreadableScan, match="no pixel is a finite number"):
            check(np.full((5, 5), np.nan))

    def test_two_values_pass(self) -> None:
        refuse_flat_values(np.array([1, 1, 2]))


class TestToUnit:
    def test_maps_and_clips(self) -> None:
        unit = to_unit(np.array([[-5.0, 0, 5, 10, 15, np.nan, np.inf, -np.inf]]), 0, 10)
        assert unit.dtype == np.float32
        np.testing.assert_array_equal(unit, [[0, 0, 0.5, 1, 1, 0, 1, 0]])

    def test_slabs_are_seamless(self, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
        values = rng.normal(size=(7, 5, 3))
        whole = to_unit(values, -1, 1)
        monkeypatch.setattr("lexiseg.values.window._SLAB", 30)
        np.testing.assert_array_equal(to_unit(values, -1, 1), whole)

    def test_extremes_of_float32_do_not_overflow(self) -> None:
        top = float(np.finfo(np.float32).max)
        np.testing.assert_array_equal(to_unit(np.array([-top, 0, top], np.float32), -top, top), [0, 0.5, 1])

    def test_refuses_what_float64_cannot_span(self) -> None:
        with pytest.raises(UnreadableScan, match="wider than float64"):
            to_unit(np.array([-1.7e308, 1.7e308]), -1.7e308, 1.7e308)


class TestCheckWindow:
    @pytest.mark.parametrize(
        ("setting", "cleaned"),
        [
            ("auto", "auto"),
            ("file", "file"),
            ("percentiles", "percentiles"),
            *((name, name) for name in NAMED_WINDOWS),
            (" Lung ", "lung"),
            ("SOFT-TISSUE", "soft-tissue"),
            ("40,400", "40,400"),
            ("-600, 1500", "-600, 1500"),
            ("0.5,1", "0.5,1"),
        ],
    )
    def test_what_can_be_asked(self, setting: str, cleaned: str) -> None:
        assert check_window(setting) == cleaned

    @pytest.mark.parametrize(
        "setting",
        [
            *("", "liver", "soft tissue", "40", "40,", ",400", "40;400", "40,400,1", "1e3,400"),
            *("40,0", "40,0.5", "40,-400", "nan,400", "40,inf", "40," + 400 * "9", 400 * "9" + ",40"),
            *(None, 40, True),
        ],
    )
    def test_anything_else_is_told_with_what_can(self, setting: object) -> None:
        with pytest.raises(UsageError) as caught:
            check_window(setting)
        said = str(caught.value)
        assert said.startswith(
            f"window is {setting!r}; expected auto, file, percentiles, lung, soft-tissue, bone, brain"
        )
        assert said.endswith("or centre,width such as 40,400, the width at least 1")

    @EXAMPLES
    @given(
        st.one_of(
            st.text(max_size=12),
            st.builds("{},{}".format, st.floats(), st.floats()),
            st.from_regex(r"-?\d+(\.\d+)?,[ \t]?\d+(\.\d+)?", fullmatch=True),
        )
    )
    def test_of_any_text_a_window_or_a_usage_error(self, text: str) -> None:
        try:
            setting = check_window(text)
        except UsageError:
            return
        assert choose(setting, own=ValueRange(0, 1, "own")).apply(CT).max() <= 1


class TestNamed:
    @pytest.mark.parametrize(("name", "centre", "width"), [(n, *cw) for n, cw in NAMED_WINDOWS.items()])
    def test_is_its_centre_and_width(self, name: str, centre: float, width: float) -> None:
        found = choose(name)
        assert found == DicomWindow(centre, width, name=name)
        np.testing.assert_array_equal(found.apply(CT), apply_window(CT, centre, width))
        assert found.describe() == f"{name} window, centre {centre:g}, width {width:g}"

    def test_what_each_is_for_is_neither_black_nor_white(self) -> None:
        """Lung parenchyma, muscle, cortical bone and grey matter, in Hounsfield units."""
        for name, tissue in (("lung", -800), ("soft-tissue", 50), ("bone", 900), ("brain", 37)):
            assert 0.1 < choose(name).apply(np.array([tissue]))[0] < 0.9, name
        assert choose("soft-tissue").apply(np.array([-800]))[0] == 0
        assert choose("lung").apply(np.array([900]))[0] == 1

    def test_a_file_without_a_unit_whose_air_is_far_below_0_is_ct(self) -> None:
        assert choose("lung", unit="") == choose("lung")

    @pytest.mark.parametrize("name", NAMED_WINDOWS)
    def test_values_of_another_unit_are_refused(self, name: str) -> None:
        with pytest.raises(UnreadableScan, match=rf"a: the {name} window is of Hounsfield units.*choose percentiles"):
            choose(name, MR, unit="")
        with pytest.raises(UnreadableScan, match=r"unit counts, from -1000"):
            choose(name, CT, unit="counts")

    def test_what_is_not_finite_does_not_pass_for_air(self) -> None:
        holed = MR.astype(np.float32)
        holed[0, 0, :2] = (-np.inf, np.nan)
        with pytest.raises(UnreadableScan, match=r"Hounsfield units.*from 20\)"):
            choose("bone", holed, unit="")

    def test_ct_of_soft_tissue_alone_is_taken_at_its_word(self) -> None:
        assert choose("bone", MR, unit="HU") == choose("bone")


class TestChoose:
    OWN = DicomWindow(50, 350)

    def test_auto_is_the_files_own_else_percentiles(self) -> None:
        assert choose("auto", own=self.OWN) is self.OWN
        low, high = np.percentile(CT, (0.5, 99.5))
        assert choose("auto") == choose("percentiles") == ValueRange(low, high, "percentiles 0.5 to 99.5")
        assert choose("percentiles", own=self.OWN) == choose("percentiles")
        assert choose("percentiles").describe() == f"percentiles 0.5 to 99.5: {low:g} to {high:g}"

    def test_file_is_the_files_own_or_an_error(self) -> None:
        assert choose("file", own=self.OWN) is self.OWN
        with pytest.raises(UnreadableScan, match="a: it names no window of its own"):
            choose("file")

    @pytest.mark.parametrize("unit", ["HU", "", "counts"])
    def test_centre_and_width_are_of_any_unit(self, unit: str) -> None:
        assert choose("-600.5, 1500", MR, unit=unit) == DicomWindow(-600.5, 1500)
        assert choose("40,400").describe() == "LINEAR window, centre 40, width 400"

    def test_a_flat_scan_has_no_percentiles(self) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            choose("auto", np.zeros((2, 3, 4)))

    def test_percentiles_of_a_large_scan_take_no_copy_of_it(self) -> None:
        """16 bits a voxel: what is sampled is float64, a fixed amount; the rest is looked at where it lies."""
        values = np.arange(2**22, dtype=np.int16).reshape(16, 512, 512)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lexiseg.values.window._SAMPLE", 2**12)
            choose("auto", values)
            tracemalloc.start()
            choose("auto", values)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < values.nbytes / 10

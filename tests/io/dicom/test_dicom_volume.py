"""The values of a series: in native units, with one window, and padding left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from study_files import AFFINES, SHAPE, VALUES, read_volume, write_series

from lexiseg.values.window import DicomWindow


class TestValues:
    def test_rescale_of_each_slice_and_hounsfield_units(self, tmp_path: Path) -> None:
        def scaled(made: Dataset, index: int) -> None:
            made.RescaleSlope, made.RescaleIntercept = 0.5 + index, -100 * index

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=scaled)
        volume = read_volume(tmp_path)
        slope, intercept = (np.arange(7)[:, None, None] * factor for factor in (1, -100))
        np.testing.assert_array_equal(volume.values, (VALUES * (slope + 0.5) + intercept).astype(np.float32))
        assert volume.values.dtype == np.float32
        assert volume.unit == "HU"

    def test_whole_numbers_stay_16_bits(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["axial"], elements={"RescaleSlope": 1, "RescaleIntercept": -1024})
        volume = read_volume(tmp_path)
        assert volume.values.dtype == np.int16
        np.testing.assert_array_equal(volume.values, VALUES - np.int16(1024))

    def test_what_16_bits_do_not_hold_becomes_float(self, tmp_path: Path) -> None:
        def scaled(made: Dataset, index: int) -> None:
            made.RescaleSlope, made.RescaleIntercept = (100 if index == 6 else 1), 0

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=scaled)
        volume = read_volume(tmp_path)
        factor = np.where(np.arange(7) == 6, 100, 1)[:, None, None]
        np.testing.assert_array_equal(volume.values, VALUES.astype(np.float32) * factor)

    @pytest.mark.parametrize("slope", ["", 0, "NaN"])
    def test_a_rescale_that_says_nothing_is_absent(self, tmp_path: Path, slope: Any) -> None:
        def scaled(made: Dataset, index: int) -> None:
            made.add_new("RescaleSlope", "LO", str(slope))

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=scaled)
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.values, VALUES)
        assert "RescaleSlope" in volume.notes["ignored"]

    def test_padding_is_nan_also_where_it_is_a_whole_slice(self, tmp_path: Path) -> None:
        values = VALUES.copy()
        values[0] = -2000
        values[3, 2] = -2000
        write_series(tmp_path, values, AFFINES["axial"], elements={"PixelPaddingValue": -2000})
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(np.isnan(volume.values), values == -2000)

    def test_one_window_where_all_slices_agree(self, tmp_path: Path) -> None:
        window = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500]}
        write_series(tmp_path / "a", VALUES, AFFINES["axial"], elements=window)
        assert read_volume(tmp_path / "a").window == DicomWindow(40, 400)

        def own(made: Dataset, index: int) -> None:
            made.WindowCenter, made.WindowWidth = 40 + index, 400

        write_series(tmp_path / "b", VALUES, AFFINES["axial"], edit=own)
        volume = read_volume(tmp_path / "b")
        assert volume.window is None
        assert volume.notes["window"] == "slices name different windows: percentiles instead"
        hidden = {"WindowCenter": 30000, "WindowWidth": 2}
        write_series(tmp_path / "c", VALUES, AFFINES["axial"], elements=hidden)
        assert "hides everything" in read_volume(tmp_path / "c").notes["window"]

    def test_monochrome1_is_turned(self, tmp_path: Path) -> None:
        stored = (VALUES + 1000).astype(np.uint16)
        elements = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11,
                    "RescaleSlope": 2, "RescaleIntercept": -50}  # fmt: skip
        write_series(tmp_path, stored, AFFINES["axial"], elements=elements)
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.values, 2.0 * (4095 - stored.astype(float)) - 50)
        assert volume.unit == ""
        assert "MONOCHROME1" in volume.notes["inverted"]

    def test_colour(self, tmp_path: Path) -> None:
        colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
        write_series(tmp_path, colours, AFFINES["axial"])
        volume = read_volume(tmp_path)
        assert volume.colour
        np.testing.assert_array_equal(volume.values, colours)

    def test_notes_hold_nothing_of_the_patient(self, tmp_path: Path) -> None:
        names = {"PatientName": "Doe^Jane", "PatientID": "4711", "SeriesDescription": "Doe"}
        write_series(tmp_path, VALUES, AFFINES["axial"], elements=names)
        told = str(read_volume(tmp_path).notes)
        assert "Doe" not in told and "4711" not in told

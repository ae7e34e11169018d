from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from lexiseg.io.dicom_display import window


class TestWindow:
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
            window(values, centre, width, function), apply_windowing(values, dataset) / 255, atol=1e-6
        )

    def test_ends_of_the_standard_example(self) -> None:
        """PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0 to the lowest and 4095 to the highest output."""
        np.testing.assert_array_equal(window(np.array([0, 4095]), 2048, 4096), [0, 1])

    def test_far_values_do_not_overflow(self) -> None:
        np.testing.assert_array_equal(window(np.array([-1e9, 1e9]), 0, 1, "SIGMOID"), [0, 1])

    @pytest.mark.parametrize(
        ("width", "function"), [(0.5, "LINEAR"), (0, "SIGMOID"), (-1, "LINEAR_EXACT"), (10, "CUBIC")]
    )
    def test_refuses_what_the_standard_does_not_define(self, width: float, function: str) -> None:
        with pytest.raises(ValueError, match=r"not defined|not LINEAR"):
            window(np.arange(5), 0, width, function)

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.values.scans import Scan

VOLUME = Scan(
    pixels=np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5),
    id="v",
    volume=True,
    spacing=(3.0, 2.0, 1.0),
)
IMAGE = Scan(pixels=np.zeros((4, 5, 3), np.float32))


class TestIterateSlices:
    def test_of_a_volume(self) -> None:
        slices = list(iterate_slices(VOLUME))
        assert [each.id for each in slices] == ["v_slice0000", "v_slice0001", "v_slice0002"]
        assert {(each.shape, each.volume, each.spacing) for each in slices} == {((4, 5), False, (2.0, 1.0))}
        np.testing.assert_array_equal(slices[2].pixels, VOLUME.pixels[2])

    def test_of_an_image_is_the_image(self) -> None:
        assert list(iterate_slices(IMAGE)) == [IMAGE]


class TestStackSlices:
    def test_undoes_iterate(self) -> None:
        stacked = stack_slices([each.pixels > 0.5 for each in iterate_slices(VOLUME)], VOLUME)
        np.testing.assert_array_equal(stacked, VOLUME.pixels > 0.5)
        assert stacked.dtype == bool

    def test_of_an_image(self) -> None:
        assert stack_slices([np.ones((4, 5), np.uint8)], IMAGE).shape == (4, 5)

    @pytest.mark.parametrize("shapes", [[(4, 5)] * 2, [(4, 5)] * 4, [(5, 4)] * 3, [(4, 5), (4, 5), (4, 6)], []])
    def test_refuses_other_slices(self, shapes: list[tuple[int, int]]) -> None:
        with pytest.raises(ValueError, match="expected 3 of"):
            stack_slices([np.zeros(shape) for shape in shapes], VOLUME)

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.errors import UnreadableScan
from lexiseg.io.intensities import grey_if_equal, refuse_flat


class TestGreyIfEqual:
    def test_equal_channels_become_one(self, rng: np.random.Generator) -> None:
        grey = rng.random((4, 5), np.float32)
        np.testing.assert_array_equal(grey_if_equal(np.stack([grey] * 3, axis=2)), grey)

    def test_one_different_pixel_keeps_colour(self) -> None:
        colour = np.zeros((4, 5, 3), np.float32)
        colour[1, 1, 2] = 0.1
        assert grey_if_equal(colour).shape == (4, 5, 3)


class TestRefuseFlat:
    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
    def test_one_colour_only(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            refuse_flat(np.broadcast_to(np.float32([0.1, 0.2, 0.3][: shape[-1]] if len(shape) == 3 else 0.5), shape))

    def test_one_pixel_in_one_channel_is_enough(self) -> None:
        colour = np.zeros((4, 5, 3), np.float32)
        colour[3, 4, 2] = 0.1
        refuse_flat(colour)

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.io.pictures import PALETTE, overlay, saliency_overlay, to_display
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume

GREY = Image(pixels=np.full((60, 80), 0.5, np.float32))
VOLUME = Volume(np.linspace(0, 1, 60).reshape(3, 4, 5), Geometry.of_spacing((3, 4, 5)))


@pytest.fixture
def square() -> np.ndarray:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 30:50] = 1
    return labels


class TestToDisplay:
    def test_grey_and_colour(self, rng: np.random.Generator) -> None:
        colour = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
        scan = Image(pixels=colour.astype(np.float32) / 255)
        np.testing.assert_array_equal(to_display(scan), colour)
        assert to_display(GREY).shape == (60, 80, 3)

    def test_a_plane_of_a_volume(self) -> None:
        plane = VOLUME.planes("axial", "percentiles")[1]
        picture = to_display(plane)
        np.testing.assert_array_equal(picture[..., 0], np.rint(plane.pixels * 255))
        assert picture.shape == (4, 5, 3)


class TestOverlay:
    def test_nothing_found_is_the_scan(self) -> None:
        picture = overlay(GREY, np.zeros((60, 80), bool), boxes=np.zeros((0, 4), np.float32))
        np.testing.assert_array_equal(picture, to_display(GREY))

    def test_outline_tint_and_the_rest(self, square: np.ndarray) -> None:
        picture = overlay(GREY, square)
        assert picture.dtype == np.uint8
        assert tuple(picture[20, 35]) == PALETTE[0]
        np.testing.assert_allclose(picture[30, 40], 0.7 * 128 + 0.3 * np.array(PALETTE[0]), atol=1)
        np.testing.assert_array_equal(picture[square == 0], 128)

    def test_each_label_has_its_colour(self, square: np.ndarray) -> None:
        square[0:5, 0:5] = 2
        square[50:55, 0:5] = 8
        picture = overlay(GREY, square)
        assert [tuple(picture[at]) for at in ((0, 0), (50, 0), (20, 30))] == [
            PALETTE[1],
            PALETTE[0],
            PALETTE[0],
        ]

    def test_boxes_are_end_exclusive(self) -> None:
        picture = overlay(GREY, np.zeros((60, 80), bool), boxes=np.array([[10, 20, 30, 40]], np.float32))
        white = (picture == 255).all(axis=2)
        rows, columns = np.nonzero(white)
        assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 29, 39)
        assert not white[25, 15]

    def test_boxes_beyond_the_border_and_empty_ones(self) -> None:
        boxes = np.array([[-5, -5, 200, 200], [10, 10, 10, 20]], np.float32)
        assert overlay(GREY, np.zeros((60, 80), bool), boxes=boxes).shape == (60, 80, 3)

    def test_names_are_drawn(self, square: np.ndarray) -> None:
        assert (overlay(GREY, square, names=["tumour"]) != overlay(GREY, square)).any()

    def test_the_scan_is_not_changed(self, square: np.ndarray) -> None:
        overlay(GREY, square, names=["x"], boxes=np.array([[1, 1, 9, 9]], np.float32))
        np.testing.assert_array_equal(GREY.pixels, np.float32(0.5))

    def test_on_a_plane_of_a_volume(self) -> None:
        plane = VOLUME.planes("axial", "percentiles")[1]
        labels = np.zeros((4, 5), np.uint8)
        labels[1:3, 1:3] = 1
        picture = overlay(plane, labels)
        assert tuple(picture[1, 1]) == PALETTE[0]
        np.testing.assert_array_equal(picture[labels == 0], to_display(plane)[labels == 0])

    def test_refuses_another_grid(self, square: np.ndarray) -> None:
        with pytest.raises(ValueError, match="expected the scan's"):
            overlay(GREY, square[1:])


class TestSaliencyOverlay:
    def test_no_saliency_is_the_scan(self) -> None:
        np.testing.assert_array_equal(saliency_overlay(GREY, np.zeros((60, 80), np.float32)), to_display(GREY))

    def test_is_brighter_and_redder_where_salient(self) -> None:
        saliency = np.zeros((60, 80), np.float32)
        saliency[10, 10], saliency[20, 20] = 0.5, 1
        picture = saliency_overlay(GREY, saliency).astype(int)
        assert picture[20, 20, 0] > picture[0, 0, 0]
        assert picture[10, 10, 0] > picture[10, 10, 1]

    def test_refuses_another_grid(self) -> None:
        with pytest.raises(ValueError, match="expected the scan's"):
            saliency_overlay(GREY, np.zeros((5, 5), np.float32))

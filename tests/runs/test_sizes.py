"""How large a mask is."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scans_of import volume_of

from lexiseg.runs.sizes import largest_diameter, sizes
from lexiseg.values.geometry import Geometry, PlaneAxes
from lexiseg.values.scans import Image, Planes, Volume

SHEARED = np.array([[0.7, 0.1, 0.3, 5], [-0.1, 0.9, 1.2, 7], [0.05, 0.2, 3.0, 9], [0, 0, 0, 1]])


def volume(shape: tuple[int, int, int], affine: np.ndarray, **more: object) -> Volume:
    return Volume(np.zeros(shape, np.float32), Geometry(shape, affine, **more))  # type: ignore[arg-type]


def all_corners(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Every corner of every voxel in mm, one by one."""
    cells = np.argwhere(mask)[:, ::-1]
    corners = np.concatenate([cells + np.array(half) for half in product((-0.5, 0.5), repeat=3)])
    return np.asarray(corners @ affine[:3, :3].T)


def test_cells_of_images_and_volumes() -> None:
    mask = np.zeros((4, 5), np.bool_)
    mask[1:3, 2:4] = True
    plain, spaced = Image(np.zeros((4, 5), np.float32)), Image(np.zeros((4, 5), np.float32), spacing=(0.5, 2.0))
    assert sizes(mask, plain.planes()) == {"area_px": "4", "area_mm2": "", "diameter_mm": ""}
    # 1 mm by 4 mm: the diagonal is the square root of 17.
    assert sizes(mask, spaced.planes()) == {"area_px": "4", "area_mm2": "4.00", "diameter_mm": "4.12"}
    stack = volume_of(np.zeros((3, 4, 5), np.float32), spacing=(3.0, 0.5, 2.0))
    found = sizes(np.stack([mask, mask, mask & False]), stack.planes())
    assert found == {"slices": "2", "volume_mm3": "24.00", "diameter_mm": f"{np.sqrt(36 + 1 + 16):.2f}"}
    assert sizes(mask & False, spaced.planes())["diameter_mm"] == ""


def test_slices_are_counted_across_the_planes_that_were_looked_at() -> None:
    # As an AIL file has it: the planes of acquisition run along the array's last axis.
    steps = np.array([[0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])[:, [2, 0, 1, 3]]
    affine = steps @ np.diag([6.0, 1, 1, 1])
    scan = Volume(np.arange(60, dtype=np.float32).reshape(3, 4, 5), Geometry((3, 4, 5), affine))
    planes = scan.planes()
    assert planes.axes is not None
    assert planes.axes.axes[0] == 2
    mask = np.zeros((3, 4, 5), np.bool_)
    mask[:, 1:, 2] = True
    assert sizes(mask, planes)["slices"] == "1"
    assert sizes(mask, Planes(scan, PlaneAxes("", (0, 1, 2), (False,) * 3), None))["slices"] == "3"


class TestVolume:
    def test_of_a_sheared_stack_it_is_the_determinant(self) -> None:
        mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
        expected = mask.sum() * abs(np.linalg.det(SHEARED[:3, :3]))
        assert volume(mask.shape, SHEARED).geometry.volume(mask) == pytest.approx(expected, rel=1e-12)

    def test_of_unequal_distances_each_slice_stands_for_its_place(self) -> None:
        geometry = Geometry((4, 2, 2), np.diag([1.0, 1, 3, 1]), positions=(0.0, 1.0, 4.0, 9.0))
        np.testing.assert_allclose(geometry.thicknesses, [1.0, 2.0, 4.0, 5.0])
        mask = np.ones((4, 2, 2), np.bool_)
        assert geometry.volume(mask) == pytest.approx(4 * 12.0)

    def test_of_a_stack_in_time_nobody_knows(self) -> None:
        geometry = Geometry((2, 3, 4), np.eye(4), time=True)
        assert geometry.volume(np.ones((2, 3, 4), np.bool_)) is None


class TestDiameter:
    @settings(max_examples=30, deadline=None)
    @given(arrays.arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)))
    def test_is_the_largest_distance_of_all_corners(self, mask: np.ndarray) -> None:
        from scipy import ndimage

        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        expected = [
            np.linalg.norm(points[:, None] - points[None], axis=-1).max()
            for points in (all_corners(labels == k, SHEARED) for k in range(1, count + 1))
        ]
        found = largest_diameter(mask, volume(mask.shape, SHEARED))
        assert found == (pytest.approx(max(expected), rel=1e-9) if expected else None)

    def test_is_of_one_piece_not_of_two_together(self) -> None:
        mask = np.zeros((10, 10), np.bool_)
        mask[0, 0] = mask[9, 6:10] = True
        found = largest_diameter(mask, Image(np.zeros((10, 10), np.float32), spacing=(1.0, 1.0)))
        assert found == pytest.approx(np.hypot(1, 4))

    def test_of_unequal_distances_spans_the_slices_places(self) -> None:
        mask = np.ones((3, 1, 1), np.bool_)
        scan = volume((3, 1, 1), np.diag([1.0, 1, 2.5, 1]), positions=(0.0, 1.0, 5.0))
        # Half a step of 1 mm before the first slice, half a step of 4 mm after the last.
        assert largest_diameter(mask, scan) == pytest.approx(np.linalg.norm([1, 1, 0.5 + 5 + 2]))
        assert all(low < high for low, high in pairwise(scan.geometry.positions or ()))

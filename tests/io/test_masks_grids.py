"""Grids that are one but for rounding, mirrored axes or their order; and grids that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lexiseg.errors import UnreadableScan
from lexiseg.io.mask_grids import turn_onto
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.values.geometry import Geometry

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SHAPE = (5, 6, 7)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Oblique grids with voxels of 0.3 to 5 mm, anywhere within a metre, in single precision as files have them."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    spacing = [draw(st.floats(0.3, 5)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine.astype(np.float32).astype(np.float64)


orientations = st.tuples(st.permutations([0, 1, 2]), st.tuples(*(st.sampled_from([1, -1]) for _ in range(3)))).map(
    lambda drawn: np.array([[axis, flip] for axis, flip in zip(*drawn, strict=True)])
)


class TestTurned:
    """Nibabel turns the array and its affine; the affines alone must lead back."""

    @given(affine=affines(), orientation=orientations, single=st.booleans())
    @RELAXED
    def test_every_orientation_is_undone(self, affine: np.ndarray, orientation: np.ndarray, single: bool) -> None:
        values = np.arange(np.prod(SHAPE)).reshape(SHAPE)
        turned = nib.Nifti1Image(values.astype(np.float32), affine).as_reoriented(orientation)
        stored = turned.affine.astype(np.float32).astype(np.float64) if single else turned.affine
        own = Geometry(turned.shape[::-1], stored)
        turn = turn_onto(own, Geometry(SHAPE[::-1], affine))
        back = turn.apply(np.asarray(turned.dataobj).T)
        np.testing.assert_array_equal(back, values.T)
        assert ("undone by the affines" in turn.note) == (not np.array_equal(stored[:3, :3], affine[:3, :3]))

    @given(affine=affines(), orientation=orientations)
    @settings(RELAXED, max_examples=20)
    def test_masks(self, tmp_path: Path, affine: np.ndarray, orientation: np.ndarray) -> None:
        rng = np.random.default_rng(3)
        scan, mask = rng.random(SHAPE).astype(np.float32), rng.random(SHAPE) > 0.6
        nib.save(nib.Nifti1Image(scan, affine), tmp_path / "scan.nii")
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine).as_reoriented(orientation), tmp_path / "mask.nii")
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii", read_scan(tmp_path / "scan.nii")), mask.T)


class TestPlace:
    @given(affine=affines(), share=st.floats(0, 9.9e-4) | st.floats(1.01e-3, 0.09), axis=st.integers(0, 2))
    @RELAXED
    def test_within_a_tenth_of_a_voxel_is_the_same(self, affine: np.ndarray, share: float, axis: int) -> None:
        moved = affine.copy()
        moved[:3, 3] += affine[:3, axis] * share
        turn = turn_onto(Geometry(SHAPE, moved), Geometry(SHAPE, affine))
        assert (turn.axes, turn.flips) == ((0, 1, 2), (False, False, False))
        assert ("taken as the same grid" in turn.note) == (share > 1e-3)

    @given(affine=affines(), share=st.floats(0.15, 3), axis=st.integers(0, 2), sign=st.sampled_from([1, -1]))
    @RELAXED
    def test_a_shift_is_refused(self, affine: np.ndarray, share: float, axis: int, sign: int) -> None:
        moved = affine.copy()
        moved[:3, 3] += affine[:3, axis] * share * sign
        with pytest.raises(UnreadableScan, match=r"mm away from its scan; expected the same affine"):
            turn_onto(Geometry(SHAPE, moved), Geometry(SHAPE, affine))

    @given(affine=affines(), decimals=st.integers(2, 6), large=st.booleans())
    @RELAXED
    def test_an_affine_of_few_decimals_is_the_same(self, affine: np.ndarray, decimals: int, large: bool) -> None:
        shape = (100, 512, 512) if large else SHAPE
        rounded = np.round(affine, decimals).astype(np.float32).astype(np.float64)
        turn_onto(Geometry(shape, rounded), Geometry(shape, affine))
        turn_onto(Geometry(shape, affine), Geometry(shape, rounded))

    @given(affine=affines(), angle=st.floats(3, 40), axis=st.integers(0, 2))
    @RELAXED
    def test_a_turn_in_space_is_refused(self, affine: np.ndarray, angle: float, axis: int) -> None:
        turned = affine.copy()
        turned[:3, :3] = Rotation.from_euler("xyz"[axis], angle, degrees=True).as_matrix() @ affine[:3, :3]
        with pytest.raises(UnreadableScan):
            turn_onto(Geometry((20, 60, 60), turned), Geometry((20, 60, 60), affine))

    @given(affine=affines())
    @RELAXED
    def test_another_voxel_size_is_refused(self, affine: np.ndarray) -> None:
        with pytest.raises(UnreadableScan):
            turn_onto(Geometry((20, 60, 60), affine @ np.diag([1.05, 1, 1, 1])), Geometry((20, 60, 60), affine))

    def test_affines_without_meaning_are_equal_to_themselves_alone(self) -> None:
        broken = np.full((4, 4), np.nan)
        assert turn_onto(Geometry(SHAPE, broken), Geometry(SHAPE, broken.copy())).note == ""
        with pytest.raises(UnreadableScan):
            turn_onto(Geometry(SHAPE, broken), Geometry(SHAPE, np.eye(4)))

    def test_another_shape(self, make_nifti: Callable[..., Path]) -> None:
        with pytest.raises(UnreadableScan, match="its shape is"):
            turn_onto(Geometry((5, 6, 8), np.eye(4)), Geometry(SHAPE, np.eye(4)))

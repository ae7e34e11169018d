from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff

from lexiseg.io.nifti_grid import NiftiGrid, nifti_grid
from lexiseg.io.read import read_scan
from lexiseg.io.write import write_mask

MakeNifti = Callable[..., Path]

# Under 200 voxels, so that a single dark one is the only one beyond the 0.5 percentile.
SHAPE = (4, 5, 6)
CODES = [tuple(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)]
SPACING = {"R": 0.8, "A": 0.9, "S": 2.5}
# Where rows and columns of each plane must point, in RAS+ mm.
UPRIGHT = {
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
}


def affine_of(codes: tuple[str, ...], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A volume whose voxel axes run along the given world directions."""
    to_canonical = inv_ornt_aff(axcodes2ornt(codes), shape)
    affine = np.diag([*SPACING.values(), 1.0]) @ np.linalg.inv(to_canonical)
    affine[:3, 3] += (-40, 20, 7)
    assert aff2axcodes(affine) == codes
    return affine


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return about_x @ about_z


class TestOrientations:
    def test_there_are_48(self) -> None:
        assert len(set(CODES)) == 48

    @pytest.mark.parametrize("codes", CODES, ids="".join)
    @pytest.mark.parametrize("plane", UPRIGHT)
    def test_slices_are_upright(self, codes: tuple[str, ...], plane: str) -> None:
        affine = affine_of(codes)
        grid = nifti_grid(SHAPE, affine, None, volume_axis=plane)
        indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
        world = nib.affines.apply_affine(affine, indices)
        shown = np.stack([grid.to_slices(world[..., axis]) for axis in range(3)], axis=-1)
        for axis, direction in enumerate(UPRIGHT[plane]):
            step = np.diff(shown, axis=axis).reshape(-1, 3)
            length = abs(np.dot(direction, tuple(SPACING.values())))
            np.testing.assert_allclose(step, np.tile(length * np.array(direction), (len(step), 1)), atol=1e-9)

    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_a_marked_voxel_comes_back_in_world_space(
        self, make_nifti: MakeNifti, tmp_path: Path, rng: np.random.Generator, codes: tuple[str, ...]
    ) -> None:
        affine = affine_of(codes)
        # Bright everywhere but for one voxel, which is the only one clipped to 0.
        voxels = rng.uniform(10, 11, SHAPE).astype(np.float32)
        target = tuple(int(i) for i in rng.integers(0, SHAPE))
        voxels[target] = 0
        path = make_nifti(voxels, affine)
        scan = read_scan(path)
        mask = scan.pixels == scan.pixels.min()
        assert mask.sum() == 1
        written = nib.load(write_mask(mask, scan, tmp_path / "out"))
        source = nib.load(path)
        found = np.argwhere(np.asarray(written.dataobj) == 1)
        assert found.tolist() == [list(target)]
        np.testing.assert_array_equal(
            nib.affines.apply_affine(written.affine, found[0]),
            nib.affines.apply_affine(source.affine, target),
        )

    @pytest.mark.parametrize("degrees", [10, 30, 44])
    @pytest.mark.parametrize("hand", [1, -1])
    def test_oblique_and_left_handed(self, degrees: float, hand: int, rng: np.random.Generator) -> None:
        affine = np.eye(4)
        affine[:3, :3] = turned(degrees) @ np.diag([hand * 0.7, 0.8, 4])
        grid = nifti_grid(SHAPE, affine, None)
        voxels = rng.random(SHAPE)
        np.testing.assert_array_equal(grid.to_source(grid.to_slices(voxels)), voxels)
        assert grid.axes[0] == 2
        assert grid.flips[2] == (hand == 1)


class TestPlane:
    @pytest.mark.parametrize(
        ("spacing", "plane"),
        [
            ((1, 1, 1), "axial"),
            ((1, 1, 5), "axial"),
            ((5, 1, 1), "sagittal"),
            ((1, 5, 1), "coronal"),
            ((1.05, 1, 1), "axial"),
            ((5, 5, 1), "axial"),
        ],
    )
    def test_auto_is_the_plane_of_acquisition(self, spacing: tuple[float, ...], plane: str) -> None:
        assert nifti_grid(SHAPE, np.diag([*spacing, 1]), None).plane == plane

    def test_auto_follows_the_world_not_the_storage(self) -> None:
        """A sagittal acquisition is often stored slices last."""
        affine = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        grid = nifti_grid(SHAPE, affine, None)
        assert (grid.plane, grid.axes) == ("sagittal", (2, 1, 0))

    @pytest.mark.parametrize(("shape", "plane"), [((1, 6, 7), "sagittal"), ((6, 1, 7), "coronal"), ((6, 7), "axial")])
    def test_auto_of_a_single_slice(self, shape: tuple[int, ...], plane: str) -> None:
        assert nifti_grid(shape, np.diag([1.0, 1, 1, 1]), None).plane == plane

    @pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 0, 1])])
    def test_an_affine_without_meaning(self, bad: np.ndarray, rng: np.random.Generator) -> None:
        grid = nifti_grid(SHAPE, bad, None)
        assert isinstance(grid, NiftiGrid)
        voxels = rng.random(SHAPE)
        np.testing.assert_array_equal(grid.to_source(grid.to_slices(voxels)), voxels)

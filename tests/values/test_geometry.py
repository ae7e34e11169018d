"""Planes of volumes that lie every way round, oblique ones and those whose affine says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nibabel.orientations import io_orientation
from orientations import CODES, SPACING, UPRIGHT, affine_of, turned
from scipy.spatial.transform import Rotation

from lexiseg.errors import UsageError
from lexiseg.values.geometry import Geometry

# Columns, rows and slices, as a file counts them; the array is (6, 5, 4).
FILE = (4, 5, 6)
SHAPE = FILE[::-1]
PLANES = sorted(UPRIGHT)
EXAMPLES = settings(max_examples=60, deadline=None)

sizes = st.floats(0.2, 8)
shapes = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def rotations(draw: st.DrawFn, most: float = 180) -> np.ndarray:
    """Any axis, and an angle up to `most` degrees."""
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    length = float(np.linalg.norm(axis))
    assume(length > 0.1)
    angle = np.deg2rad(draw(st.floats(0, most)))
    return np.asarray(Rotation.from_rotvec(axis / length * angle).as_matrix())


@st.composite
def affines(draw: st.DrawFn, most: float = 180) -> np.ndarray:
    """Oblique, of unequal spacing, and of either hand."""
    affine = np.eye(4)
    order = np.eye(3)[list(draw(st.permutations(range(3))))]
    signs = np.array(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    affine[:3, :3] = draw(rotations(most)) @ order @ np.diag(signs * draw(st.tuples(sizes, sizes, sizes)))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


def world_of(affine: np.ndarray) -> np.ndarray:
    """(D, H, W, 3): where each voxel lies."""
    indices = np.stack(np.meshgrid(*map(np.arange, FILE), indexing="ij"), axis=-1)
    return np.asarray(apply_affine(affine, indices)).transpose(2, 1, 0, 3)


class TestOrientations:
    def test_there_are_48(self) -> None:
        assert len(set(CODES)) == 48

    @pytest.mark.parametrize("plane", PLANES)
    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_planes_are_upright(self, codes: tuple[str, ...], plane: Any) -> None:
        affine = affine_of(codes, FILE)
        axes = Geometry(SHAPE, affine).plane_axes(plane)
        world = world_of(affine)
        shown = np.stack([axes.cut(world[..., axis]) for axis in range(3)], axis=-1)
        for axis, direction in enumerate(UPRIGHT[plane]):
            step = np.diff(shown, axis=axis).reshape(-1, 3)
            length = abs(np.dot(direction, tuple(SPACING.values())))
            np.testing.assert_allclose(step, np.tile(length * np.array(direction), (len(step), 1)), atol=1e-9)

    @pytest.mark.parametrize("plane", ["auto", *PLANES])
    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_assemble_undoes_cut_to_the_bit(self, codes: tuple[str, ...], plane: Any) -> None:
        voxels = np.random.default_rng(3).random(SHAPE)
        axes = Geometry(SHAPE, affine_of(codes, FILE)).plane_axes(plane)
        np.testing.assert_array_equal(axes.assemble(axes.cut(voxels)), voxels)
        assert np.shares_memory(axes.cut(voxels), voxels)

    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_one_body_is_one_picture_however_it_is_stored(self, codes: tuple[str, ...]) -> None:
        """Each voxel holds a function of its place in the body, so that all 48 files show the same planes."""
        reference = affine_of(("L", "P", "S"), FILE)
        to_reference = np.linalg.inv(reference)

        def stored(affine: np.ndarray, length: tuple[int, ...]) -> np.ndarray:
            indices = np.stack(np.meshgrid(*map(np.arange, length), indexing="ij"), axis=-1)
            places = np.rint(apply_affine(to_reference @ affine, indices)).astype(int)
            return np.asarray((places * [1, 10, 100]).sum(axis=-1)).T

        lengths = {"R": 4, "L": 4, "A": 5, "P": 5, "S": 6, "I": 6}
        length = tuple(lengths[code] for code in codes)
        affine = affine_of(codes, length)
        # The same corner of the body as the reference.
        corner = apply_affine(reference, (3, 4, 0)) - apply_affine(
            affine, [0 if code in "RAS" else n - 1 for code, n in zip(codes, length, strict=True)]
        )
        affine[:3, 3] += corner
        expected = Geometry(SHAPE, reference)
        found = Geometry((length[2], length[1], length[0]), affine)
        for plane in ("axial", "coronal", "sagittal"):
            np.testing.assert_array_equal(
                found.plane_axes(plane).cut(stored(affine, length)),
                expected.plane_axes(plane).cut(stored(reference, FILE)),
            )


class TestOblique:
    @pytest.mark.parametrize("degrees", [10, 30, 44])
    @pytest.mark.parametrize("hand", [1, -1])
    def test_is_cut_along_its_own_axes(self, degrees: float, hand: int) -> None:
        affine = np.eye(4)
        affine[:3, :3] = turned(degrees) @ np.diag([hand * 0.7, 0.8, 4])
        axes = Geometry(SHAPE, affine).plane_axes()
        voxels = np.random.default_rng(3).random(SHAPE)
        np.testing.assert_array_equal(axes.assemble(axes.cut(voxels)), voxels)
        assert (axes.name, axes.axes) == ("axial", (0, 1, 2))
        assert axes.flips[2] == (hand == 1)

    @EXAMPLES
    @given(affines(), shapes, st.sampled_from(["auto", *PLANES]))
    def test_assemble_undoes_cut(self, affine: np.ndarray, shape: tuple[int, int, int], plane: Any) -> None:
        voxels = np.arange(np.prod(shape)).reshape(shape)
        axes = Geometry(shape, affine).plane_axes(plane)
        np.testing.assert_array_equal(axes.assemble(axes.cut(voxels)), voxels)
        assert axes.cut(voxels).shape == tuple(shape[axis] for axis in axes.axes)
        assert plane in ("auto", axes.name)

    @EXAMPLES
    @given(affines(most=44), st.sampled_from(PLANES))
    def test_below_45_degrees_planes_are_upright_to_the_nearest_axis(self, affine: np.ndarray, plane: Any) -> None:
        axes = Geometry(SHAPE, affine).plane_axes(plane)
        world = world_of(affine)
        shown = np.stack([axes.cut(world[..., axis]) for axis in range(3)], axis=-1)
        for axis, direction in enumerate(UPRIGHT[plane]):
            step = np.diff(shown, axis=axis).reshape(-1, 3)[0]
            # A rotation by less than 45 degrees turns no axis further than that.
            assert np.dot(step, direction) >= np.cos(np.deg2rad(44.01)) * np.linalg.norm(step)

    # No rotation, which hypothesis tries first and often, is all ties.
    @settings(EXAMPLES, suppress_health_check=[HealthCheck.filter_too_much])
    @given(affines())
    def test_axes_are_named_as_nibabel_names_them(self, affine: np.ndarray) -> None:
        cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        # Ties, which rounding decides, are nobody's.
        flat = np.sort(np.abs(cosines).ravel())
        assume(np.diff(flat).min() > 1e-6)
        world = io_orientation(affine).astype(int)
        for plane in ("axial", "coronal", "sagittal"):
            axes = Geometry(SHAPE, affine).plane_axes(plane)
            for axis, flip, direction in zip(axes.axes, axes.flips, UPRIGHT[plane], strict=True):
                voxel = 2 - axis
                assert world[voxel, 0] == np.flatnonzero(direction)[0]
                assert flip == (world[voxel, 1] != sum(direction))

    def test_a_tilted_gantry_is_no_rotation_and_is_cut_as_acquired(self) -> None:
        tilt = np.deg2rad(25)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[-0.5, 0, 0], [0, -0.5, 5 * np.sin(tilt)], [0, 0, 5 * np.cos(tilt)]])
        axes = Geometry(SHAPE, affine).plane_axes()
        assert (axes.name, axes.axes, axes.flips) == ("axial", (0, 1, 2), (False, False, False))


class TestPlane:
    @pytest.mark.parametrize(
        ("spacing", "plane"),
        [
            ((1, 1, 1), "axial"),
            ((1, 1, 5), "axial"),
            ((5, 1, 1), "sagittal"),
            ((1, 5, 1), "coronal"),
            ((1.05, 1, 1), "axial"),
            ((1.2, 1, 1), "sagittal"),
            ((5, 5, 1), "axial"),
        ],
    )
    def test_auto_is_the_plane_of_acquisition(self, spacing: tuple[float, ...], plane: str) -> None:
        assert Geometry(SHAPE, np.diag([*spacing, 1])).plane_axes().name == plane

    def test_auto_follows_the_world_not_the_storage(self) -> None:
        """A sagittal acquisition is often stored slices last."""
        affine = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        axes = Geometry(SHAPE, affine).plane_axes()
        assert (axes.name, axes.axes) == ("sagittal", (0, 1, 2))

    @pytest.mark.parametrize(
        ("shape", "plane"),
        [((7, 6, 1), "sagittal"), ((7, 1, 6), "coronal"), ((1, 7, 6), "axial"), ((1, 1, 6), "axial")],
    )
    def test_auto_of_a_single_slice(self, shape: tuple[int, int, int], plane: str) -> None:
        assert Geometry(shape, np.eye(4)).plane_axes().name == plane

    @pytest.mark.parametrize("plane", ["transverse", "", "Axial", None])
    def test_another_name_is_refused(self, plane: Any) -> None:
        with pytest.raises(UsageError, match=f"plane is {plane!r}; expected one of auto, axial, coronal, sagittal"):
            Geometry(SHAPE, np.eye(4)).plane_axes(plane)


SINGULAR = {
    "zeros": np.zeros((4, 4)),
    "nan": np.full((4, 4), np.nan),
    "inf": np.diag([1.0, np.inf, 1, 1]),
    "no thickness": np.diag([1.0, 1, 0, 1]),
    "two axes are one": np.array([[1.0, 1, 0, 0], [2, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    # 0.1 + 0.2 is not 0.3: the determinant of what is singular but for rounding is not 0.
    "singular but for rounding": np.array([[0.1, 0.2, 0.3, 0], [0.2, 0.1, 0.3, 0], [0.7, 0.3, 1.0, 0], [0, 0, 0, 1]]),
}


SIDES = {
    "axial": {"left": "R", "right": "L", "top": "A", "bottom": "P"},
    "coronal": {"left": "R", "right": "L", "top": "S", "bottom": "I"},
    "sagittal": {"left": "A", "right": "P", "top": "S", "bottom": "I"},
}


class TestLetters:
    @pytest.mark.parametrize("codes", CODES)
    @pytest.mark.parametrize("plane", PLANES)
    def test_every_orientation_is_shown_the_same_way_round(self, codes: tuple[str, ...], plane: Any) -> None:
        geometry = Geometry(SHAPE, affine_of(codes, FILE))
        axes = geometry.plane_axes(plane)
        assert geometry.letters(axes) == SIDES[plane]
        # And that is so: each voxel's own place, as the planes show it.
        shown = axes.cut(world_of(geometry.affine))
        for side, way in (("right", shown[:, :, -1] - shown[:, :, 0]), ("bottom", shown[:, -1] - shown[:, 0])):
            letter = SIDES[plane][side]
            world = next(k for k, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
            assert (np.sign(way[..., world]) == (1 if letter in "RAS" else -1)).all()

    def test_an_oblique_plane_names_all_directions_that_it_leans_to(self) -> None:
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("x", 30, degrees=True).as_matrix() @ np.diag([-1.0, -1, 1])
        geometry = Geometry(SHAPE, affine)
        found = geometry.letters(geometry.plane_axes("axial"))
        # Rows of (0, -1, 0) turned by 30 degrees about the right run to (0, -0.87, -0.5).
        assert found == {"left": "R", "right": "L", "top": "AS", "bottom": "PI"}
        affine[:3, :3] = Rotation.from_euler("x", 19, degrees=True).as_matrix() @ np.diag([-1.0, -1, 1])
        assert Geometry(SHAPE, affine).letters(geometry.plane_axes("axial")) == SIDES["axial"]

    def test_nobody_knows_them_of_what_was_not_placed(self) -> None:
        for grid in (Geometry.of_spacing(SHAPE), Geometry(SHAPE, np.eye(4), time=True)):
            assert grid.letters(grid.plane_axes()) is None


class TestAffinesWithoutMeaning:
    @pytest.mark.parametrize("affine", SINGULAR.values(), ids=SINGULAR)
    @pytest.mark.parametrize("plane", ["auto", *PLANES])
    def test_column_row_and_slice_count_as_right_anterior_superior(self, affine: np.ndarray, plane: Any) -> None:
        geometry = Geometry(SHAPE, affine)
        voxels = np.random.default_rng(3).random(SHAPE)
        axes = geometry.plane_axes(plane)
        assert not geometry.oriented
        assert axes == Geometry(SHAPE, np.eye(4)).plane_axes(axes.name)  # type: ignore[arg-type]
        np.testing.assert_array_equal(axes.assemble(axes.cut(voxels)), voxels)

    @pytest.mark.parametrize("name", SINGULAR)
    def test_letters_are_unknown(self, name: str) -> None:
        grid = Geometry(SHAPE, SINGULAR[name])
        assert grid.letters(grid.plane_axes()) is None

    @pytest.mark.parametrize("name", ["zeros", "nan", "inf", "no thickness"])
    def test_spacing_is_unknown(self, name: str) -> None:
        assert Geometry(SHAPE, SINGULAR[name]).spacing is None

    @EXAMPLES
    @given(affines())
    def test_any_other_is_oriented(self, affine: np.ndarray) -> None:
        assert Geometry(SHAPE, affine).oriented


class TestSpacing:
    @EXAMPLES
    @given(rotations(), st.tuples(sizes, sizes, sizes))
    def test_does_not_depend_on_the_rotation(self, rotation: np.ndarray, size: tuple[float, ...]) -> None:
        affine = np.eye(4)
        affine[:3, :3] = rotation @ np.diag(size)
        assert Geometry(SHAPE, affine).spacing == pytest.approx(size[::-1])

    def test_of_a_grid_that_nobody_placed(self) -> None:
        geometry = Geometry.of_spacing(SHAPE, (3.0, 0.5, 0.25))
        assert geometry.spacing == (3.0, 0.5, 0.25)
        axes = geometry.plane_axes("axial")
        assert (axes.axes, axes.flips) == ((0, 1, 2), (False, False, False))
        assert Geometry.of_spacing(SHAPE).spacing == (1, 1, 1)


class TestDistance:
    def test_a_shift_is_the_distance(self) -> None:
        moved = np.eye(4)
        moved[1, 3] = -2
        assert Geometry(SHAPE, np.eye(4)).distance(Geometry(SHAPE, moved)) == 2

    def test_of_a_scaling_the_far_corner_counts(self) -> None:
        first, second = Geometry(SHAPE, np.eye(4)), Geometry(SHAPE, np.diag([1.0, 1, 1.5, 1]))
        assert first.distance(second) == 3
        assert second.distance(first) == 3

    def test_what_is_not_finite_is_equal_only_to_itself(self) -> None:
        first = Geometry(SHAPE, np.diag([1.0, np.nan, 1, 1]))
        assert first.distance(Geometry(SHAPE, np.diag([1.0, np.nan, 1, 1]))) == 0
        assert np.isnan(first.distance(Geometry(SHAPE, np.eye(4))))


class TestSheared:
    """A gantry that was tilted by 20 degrees: slices 5 mm apart along their normal, each shifted beside the last."""

    GRID = Geometry(
        (9, 8, 7),
        np.array([[-0.5, 0, 0, 0], [0, -0.5, 5 * np.tan(np.radians(20)), 0], [0, 0, 5, 0], [0, 0, 0, 1.0]]),
    )

    def test_planes_are_as_far_apart_as_their_normal_says(self) -> None:
        centres = self.GRID.spacing
        assert centres is not None and centres[0] == pytest.approx(5 / np.cos(np.radians(20)))
        assert [self.GRID.distance_of_planes(axis) for axis in range(3)] == pytest.approx(
            [5.0, 0.5 * np.cos(np.radians(20)), 0.5]
        )

    def test_steps_say_where_voxels_lie(self) -> None:
        directions, spacing = self.GRID.directions, np.asarray(self.GRID.spacing)
        assert directions is not None
        place = np.array([3, 2, 1])  # slice, row, column
        expected = self.GRID.affine[:3, :3] @ place[::-1]
        np.testing.assert_allclose((place * spacing) @ directions, expected, atol=1e-12)

    @pytest.mark.parametrize("affine", [np.diag([-0.5, -0.5, 5, 1]), np.zeros((4, 4)), np.diag([1, 0, 1, 1.0])])
    def test_at_right_angles_or_without_meaning_there_are_none(self, affine: np.ndarray) -> None:
        assert Geometry((2, 2, 2), affine).directions is None

    def test_a_volume_in_a_slice_alone(self) -> None:
        counts = np.zeros(9, np.int64)
        counts[4] = 400
        assert self.GRID.volume_of(counts) == pytest.approx(400 * 0.25 * 5)

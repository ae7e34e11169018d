"""Images and volumes as planes, and what is made of planes back on the scan's own grid."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from orientations import CODES, SPACING, UPRIGHT, affine_of, turned

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.values.geometry import Geometry
from lexiseg.values.masks import Prompts, box_of
from lexiseg.values.scans import Image, Plane, Planes, Volume
from lexiseg.values.window import DicomWindow, apply_window, to_unit

PLANES = sorted(UPRIGHT)
FILE = (4, 5, 6)
SHAPE = FILE[::-1]


def volume_of(
    shape: tuple[int, int, int] = (3, 4, 5), *, spacing: tuple[float, float, float] = (3.0, 2.0, 1.0), **more: Any
) -> Volume:
    values = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return Volume(**{"values": values, "geometry": Geometry.of_spacing(shape, spacing), "id": "v", **more})


def ct(affine: np.ndarray, **more: Any) -> Volume:
    """Hounsfield units from -1000 to 2000, no two alike."""
    values = np.random.default_rng(5).permutation(np.linspace(-1000, 2000, int(np.prod(SHAPE)))).reshape(SHAPE)
    return Volume(values=values.astype(np.float32), geometry=Geometry(SHAPE, affine), id="ct", unit="HU", **more)


class TestPlanesOfAVolume:
    def test_are_its_slices_in_order(self) -> None:
        volume = volume_of()
        planes = volume.planes("axial", "0.5,1")
        assert [plane.id for plane in planes] == ["v_slice0000", "v_slice0001", "v_slice0002"]
        assert [plane.index for plane in planes] == [0, 1, 2]
        assert {(plane.shape, plane.spacing) for plane in planes} == {((4, 5), (2.0, 1.0))}
        np.testing.assert_array_equal(planes[2].pixels, apply_window(volume.values[2], 0.5, 1))
        assert all(plane.pixels.flags.c_contiguous for plane in planes)

    def test_are_a_sequence(self) -> None:
        planes = volume_of().planes()
        assert isinstance(planes, Planes)
        assert len(planes) == 3
        assert planes[-1].id == planes[np.int64(2)].id == "v_slice0002"
        assert [plane.index for plane in planes[1:]] == [1, 2]
        assert [plane.index for plane in reversed(planes)] == [2, 1, 0]
        for index in (3, -4):
            with pytest.raises(IndexError):
                planes[index]

    @pytest.mark.parametrize("plane", PLANES)
    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_all_orientations_there_and_back_to_the_bit(self, codes: tuple[str, ...], plane: Any) -> None:
        volume = ct(affine_of(codes, FILE))
        planes = volume.planes(plane, "500,3000")
        shown = [each.pixels for each in planes]
        expected = apply_window(volume.values, 500, 3000)
        np.testing.assert_array_equal(planes.assemble(shown), expected)
        np.testing.assert_array_equal(np.stack(shown), planes.cut(expected))
        np.testing.assert_array_equal(planes.assemble(list(planes.cut(volume.values))), volume.values)

    @pytest.mark.parametrize("plane", PLANES)
    @pytest.mark.parametrize("codes", CODES, ids="".join)
    def test_spacing_is_that_of_rows_and_columns(self, codes: tuple[str, ...], plane: Any) -> None:
        """Whatever the storage: an axial plane's rows are 0.9 mm apart and its columns 0.8 mm."""
        row, column = (np.abs(direction) @ list(SPACING.values()) for direction in UPRIGHT[plane][1:])
        planes = ct(affine_of(codes, FILE)).planes(plane)
        assert {each.spacing for each in planes} == {planes[0].spacing}
        assert planes[0].spacing == pytest.approx((row, column))

    def test_spacing_of_an_oblique_volume(self) -> None:
        affine = np.eye(4)
        affine[:3, :3] = turned(20) @ np.diag([-0.5, -0.75, 3])
        for plane, spacing in (("axial", (0.75, 0.5)), ("coronal", (3, 0.5)), ("sagittal", (3, 0.75))):
            assert ct(affine).planes(plane)[0].spacing == pytest.approx(spacing)  # type: ignore[arg-type]

    def test_spacing_that_the_affine_does_not_say(self) -> None:
        volume = ct(np.diag([1.0, 1, 0, 1]))
        assert volume.spacing is None
        assert volume.planes()[0].spacing is None

    def test_another_plane_is_refused(self) -> None:
        with pytest.raises(UsageError, match="plane is 'oblique'"):
            volume_of().planes("oblique")  # type: ignore[arg-type]


class TestWindowOfAVolume:
    @pytest.mark.parametrize("plane", PLANES)
    def test_is_decided_once_for_all_planes(self, plane: Any) -> None:
        """Slices of a ramp: a window of each slice's own would show all of them alike."""
        values = np.add.outer(np.arange(6) * 100.0, np.arange(20).reshape(4, 5))
        volume = Volume(values=values, geometry=Geometry.of_spacing((6, 4, 5)))
        planes = volume.planes(plane)
        low, high = np.percentile(values, (0.5, 99.5))
        np.testing.assert_array_equal(planes.assemble([each.pixels for each in planes]), to_unit(values, low, high))
        assert planes.record() == {"plane": plane, "window": f"percentiles 0.5 to 99.5: {low:g} to {high:g}"}

    @pytest.mark.parametrize(
        ("window", "centre", "width"),
        [("lung", -600, 1500), ("soft-tissue", 40, 400), ("bone", 400, 1800), ("brain", 40, 80), ("100,50", 100, 50)],
    )
    def test_that_is_asked_for(self, window: str, centre: float, width: float) -> None:
        volume = ct(np.diag([-1.0, -1, 1, 1]))
        planes = volume.planes("axial", window)
        expected = apply_window(volume.values, centre, width)
        np.testing.assert_array_equal(planes.assemble([each.pixels for each in planes]), expected)
        assert planes.record()["window"].endswith(f"window, centre {centre}, width {width}")

    def test_of_the_file(self) -> None:
        own = DicomWindow(50, 350)
        volume = ct(np.eye(4), window=own)
        assert volume.planes(window="auto").window is own
        assert volume.planes(window="file").window is own
        assert volume.planes(window="percentiles").window != own

    def test_that_the_file_does_not_have(self) -> None:
        with pytest.raises(UnreadableScan, match="ct: it names no window of its own"):
            ct(np.eye(4)).planes(window="file")

    def test_of_hounsfield_units_on_other_values(self) -> None:
        with pytest.raises(UnreadableScan, match="v: the lung window is of Hounsfield units"):
            volume_of().planes(window="lung")

    def test_that_is_none(self) -> None:
        with pytest.raises(UsageError, match="window is 'liver'"):
            volume_of().planes(window="liver")

    def test_nothing_to_see(self) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            volume_of(values=np.zeros((3, 4, 5))).planes()

    def test_no_voxel_is_changed_by_being_shown(self) -> None:
        volume = ct(np.eye(4))
        before = volume.values.copy()
        volume.values.flags.writeable = False
        for plane in volume.planes(window="lung"):
            plane.pixels[:] = 0
        np.testing.assert_array_equal(volume.values, before)


class TestMemory:
    def test_a_plane_lives_as_long_as_its_user_holds_it(self) -> None:
        planes = volume_of((4, 5, 6)).planes()
        plane: Plane | None = planes[1]
        assert plane is not None
        pixels = weakref.ref(plane.pixels)
        plane = None
        gc.collect()
        assert pixels() is None

    @pytest.mark.parametrize("plane", PLANES)
    def test_going_through_a_volume_takes_the_room_of_a_few_planes(self, plane: Any) -> None:
        shape = (40, 40, 40)
        values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
        planes = Volume(values=values, geometry=Geometry.of_spacing(shape)).planes(plane)
        planes[0]
        tracemalloc.start()
        for each in planes:
            assert each.shape == (40, 40)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # float64 of one plane, twice, and float32 of it, twice, are 24 bytes a pixel; all planes would be 160.
        assert peak < 48 * 40 * 40

    def test_cutting_copies_nothing(self) -> None:
        volume = ct(affine_of(("P", "S", "R"), FILE))
        assert np.shares_memory(volume.planes("coronal").cut(volume.values), volume.values)


class TestAssemble:
    @pytest.mark.parametrize("plane", PLANES)
    @pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32])
    def test_masks_and_maps(self, plane: Any, dtype: type) -> None:
        volume = ct(affine_of(("A", "I", "L"), FILE))
        planes = volume.planes(plane, "lung")
        whole = planes.assemble([(each.pixels > 0.5).astype(dtype) for each in planes])
        np.testing.assert_array_equal(whole, apply_window(volume.values, -600, 1500) > 0.5)
        assert whole.dtype == dtype
        assert whole.flags.c_contiguous

    def test_of_an_image(self) -> None:
        for pixels in (np.zeros((4, 5), np.float32), np.zeros((4, 5, 3), np.float32)):
            planes = Image(pixels).planes()
            mask = np.random.default_rng(0).random((5, 4)).T > 0.5
            np.testing.assert_array_equal(planes.assemble([mask]), mask)
            assert planes.assemble([mask]).flags.c_contiguous
            np.testing.assert_array_equal(planes.cut(mask), mask[None])

    @pytest.mark.parametrize("shapes", [[(4, 5)] * 2, [(4, 5)] * 4, [(5, 4)] * 3, [(4, 5), (4, 5), (4, 6)], []])
    def test_refuses_other_planes(self, shapes: list[tuple[int, int]]) -> None:
        with pytest.raises(ValueError, match="expected 3 of"):
            volume_of().planes("axial").assemble([np.zeros(shape) for shape in shapes])

    @settings(max_examples=40, deadline=None)
    @given(
        hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)),
        st.sampled_from(CODES),
        st.sampled_from(["auto", *PLANES]),
    )
    def test_undoes_cut_of_any_shape(self, mask: np.ndarray, codes: tuple[str, ...], plane: Any) -> None:
        depth, height, width = mask.shape
        values = np.arange(mask.size).reshape(mask.shape)
        volume = Volume(values=values, geometry=Geometry(values.shape, affine_of(codes, (width, height, depth))))
        planes = volume.planes(plane, "0,1")
        np.testing.assert_array_equal(planes.assemble(list(planes.cut(mask))), mask)
        assert len(planes) == len(planes.cut(mask))


class TestImage:
    def test_is_its_one_plane_as_it_is(self) -> None:
        pixels = np.random.default_rng(0).random((4, 5, 3), np.float32)
        planes = Image(pixels, id="a", spacing=(2.0, 1.0)).planes("coronal", "file")
        (plane,) = planes
        np.testing.assert_array_equal(plane.pixels, pixels)
        assert (plane.id, plane.index, plane.shape, plane.spacing) == ("a", 0, (4, 5), (2.0, 1.0))
        assert planes.record() == {"plane": "", "window": "as displayed"}
        assert Image(pixels).planes()[0].spacing is None

    def test_native_values_through_a_window(self) -> None:
        native = np.linspace(-1000, 1000, 20).reshape(4, 5)
        shown = np.zeros((4, 5), np.float32)
        image = Image(shown, native=native, unit="HU", spacing=(2.0, 1.0))
        np.testing.assert_array_equal(image.planes()[0].pixels, shown)
        planes = image.planes("auto", "lung")
        np.testing.assert_array_equal(planes[0].pixels, apply_window(native, -600, 1500))
        assert planes.record()["window"] == "lung window, centre -600, width 1500"
        assert planes[0].spacing == (2.0, 1.0)
        low, high = np.percentile(native, (0.5, 99.5))
        np.testing.assert_array_equal(image.planes(window="percentiles")[0].pixels, to_unit(native, low, high))

    def test_native_values_of_another_unit(self) -> None:
        image = Image(np.zeros((4, 5), np.float32), id="mr", native=np.arange(20).reshape(4, 5))
        with pytest.raises(UnreadableScan, match="mr: the bone window is of Hounsfield units"):
            image.planes(window="bone")
        np.testing.assert_array_equal(
            image.planes(window="10,5")[0].pixels, apply_window(np.arange(20).reshape(4, 5), 10, 5)
        )

    @pytest.mark.parametrize("window", ["lung", "percentiles", "40,400"])
    def test_without_native_values_no_window(self, window: str) -> None:
        with pytest.raises(UnreadableScan, match="a: it has no values but its pixels"):
            Image(np.zeros((4, 5), np.float32), id="a").planes(window=window)

    def test_a_window_that_is_none(self) -> None:
        with pytest.raises(UsageError, match="window is 'liver'"):
            Image(np.zeros((4, 5), np.float32)).planes(window="liver")


RIGHT_DOWN = {
    "usual": ((-1, 0, 0), (0, -1, 0)),
    "mirrored": ((1, 0, 0), (0, -1, 0)),
    "prone": ((1, 0, 0), (0, 1, 0)),
    "upside down": ((-1, 0, 0), (0, 1, 0)),
    "transposed": ((0, -1, 0), (-1, 0, 0)),
    "turned": ((0, 1, 0), (-1, 0, 0)),
    "turned back": ((0, -1, 0), (1, 0, 0)),
    "coronal, head down": ((-1, 0, 0), (0, 0, 1)),
}


class TestImageThatSaysWhichWayItLies:
    @pytest.mark.parametrize("way", RIGHT_DOWN)
    @pytest.mark.parametrize("shape", [(4, 5), (1, 1), (1, 5)])
    def test_is_seen_upright_and_comes_back_to_its_pixels(self, way: str, shape: tuple[int, int]) -> None:
        geometry = Geometry.of_picture(shape, np.array(RIGHT_DOWN[way], float), (2.0, 1.0))
        pixels = np.random.default_rng(0).random(shape, np.float32)
        planes = Image(pixels, spacing=(2.0, 1.0), geometry=geometry, native=pixels).planes(window="0,1")
        (plane,) = planes
        assert planes.letters is not None
        assert (planes.letters["left"], planes.letters["top"]) == ("R", "S" if "head" in way else "A")
        across = RIGHT_DOWN[way][0]
        assert plane.spacing == ((2.0, 1.0) if across[0] else (1.0, 2.0))
        np.testing.assert_array_equal(planes.assemble([plane.pixels]), apply_window(pixels, 0.5, 1))
        np.testing.assert_array_equal(planes.cut(planes.assemble([plane.pixels]))[0], plane.pixels)
        if way == "usual":
            np.testing.assert_array_equal(plane.pixels, apply_window(pixels, 0.5, 1))
        if way == "prone":
            np.testing.assert_array_equal(plane.pixels, apply_window(pixels[::-1, ::-1], 0.5, 1))

    @pytest.mark.parametrize("way", RIGHT_DOWN)
    def test_boxes_and_points_come_back_too(self, way: str) -> None:
        geometry = Geometry.of_picture((20, 30), np.array(RIGHT_DOWN[way], float))
        planes = Image(np.zeros((20, 30), np.float32), geometry=geometry).planes()
        mask = np.zeros(planes[0].shape, np.bool_)
        mask[3:9, 4:6] = True
        dot = np.zeros_like(mask)
        dot[4, 5] = True
        found = planes.stored(Prompts(np.array([box_of(mask)], np.float32), np.array([[5.5, 4.5]], np.float32)))
        assert found.boxes.tolist() == [list(box_of(planes.assemble([mask])))]
        ((row, column),) = np.argwhere(planes.assemble([dot]))
        assert found.points.tolist() == [[column + 0.5, row + 0.5]]

    def test_a_volumes_prompts_are_those_of_its_planes(self) -> None:
        asked = Prompts(np.array([[1, 2, 3, 4]], np.float32))
        assert ct(affine_of(("R", "A", "S"), FILE)).planes().stored(asked) is asked

    def test_a_geometry_of_another_shape(self) -> None:
        with pytest.raises(ValueError, match="expected \\(1, 4, 5\\)"):
            Image(np.zeros((4, 5), np.float32), geometry=Geometry.of_spacing((1, 5, 4)))


class TestChecks:
    @pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.bool_])
    def test_pixels_of_another_kind(self, dtype: type) -> None:
        with pytest.raises(TypeError, match="expected float32"):
            Image(np.zeros((4, 5), dtype))

    @pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (4, 5, 4), (2, 4, 5, 3), (0, 5), (4, 0, 3)])
    def test_pixels_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"expected \(H, W\) or \(H, W, 3\)"):
            Image(np.zeros(shape, np.float32))

    def test_native_values_of_another_shape(self) -> None:
        with pytest.raises(ValueError, match="native values have shape"):
            Image(np.zeros((4, 5, 3), np.float32), native=np.zeros((5, 4)))

    @pytest.mark.parametrize("shape", [(4, 5), (3, 4, 6), (3, 4, 5, 1)])
    def test_values_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"expected \(D, H, W\) = \(3, 4, 5\)"):
            Volume(np.zeros(shape), Geometry.of_spacing((3, 4, 5)))

    def test_an_empty_volume(self) -> None:
        with pytest.raises(ValueError, match="values have shape"):
            Volume(np.zeros((0, 4, 5)), Geometry.of_spacing((0, 4, 5)))

    @pytest.mark.parametrize("dtype", [np.complex64, "U1", object])
    def test_values_that_are_no_real_numbers(self, dtype: Any) -> None:
        with pytest.raises(ValueError, match="expected real numbers"):
            Volume(np.zeros((3, 4, 5), dtype), Geometry.of_spacing((3, 4, 5)))


def test_planes_of_a_sheared_volume_are_as_far_apart_as_their_normal_says() -> None:
    tilt = np.radians(20)
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 5 * np.sin(tilt), 0], [0, 0, 5 * np.cos(tilt), 0], [0, 0, 0, 1]])
    values = np.arange(48.0).reshape(3, 4, 4)
    volume = Volume(values, Geometry((3, 4, 4), affine))
    assert volume.planes("axial").positions == pytest.approx((0, 5 * np.cos(tilt), 10 * np.cos(tilt)))
    uneven = Volume(values, Geometry((3, 4, 4), affine, positions=(0.0, 4.0, 10.0)))
    assert uneven.planes("axial").positions == pytest.approx((0, 4 * np.cos(tilt), 10 * np.cos(tilt)))

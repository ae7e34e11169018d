"""Structure sets read back: contours to exactly the voxels whose centres they enclose."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import PLANS, UNEVEN, SeriesPlan, volume_of_multi_frame, volume_of_series, write_multi_frame
from dicom_series import write_series as write_plan
from skimage.draw import polygon2mask

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.placed import is_placed, read_placed
from lexiseg.io.dicom.rtstruct import RtstructWriter
from lexiseg.io.masks import read_mask
from lexiseg.io.read import read_scan
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume

SHAPE = (5, 13, 11)
SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "dicom"


def masks_of(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A random mask with holes, and a ring within a ring that touches every border."""
    ring = np.zeros(shape, np.bool_)
    ring[1:3] = True
    ring[1:3, 2:-2, 2:-2] = False
    ring[1:3, 4:-4, 4:-4] = True
    return {"Brain tumor": np.random.default_rng(5).random(shape) > 0.4, "ring": ring}


def write(scan: Scan, masks: dict[str, np.ndarray], path: Path) -> Path:
    labels = np.zeros(scan.shape, np.uint8)
    segments = Segments(scan, tuple(Segment(name, name, mask) for name, mask in masks.items()), labels)
    ((_, content),) = RtstructWriter().files(segments, WriteOptions(), {})
    path.write_bytes(content)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    """Axial slices of 1 mm pixels, 2 mm apart, whose first voxel lies at 0, 0, 0."""
    plan = SeriesPlan(shape=SHAPE, spacing=(1.0, 1.0), origin=(0.0, 0.0, 0.0), step=(0.0, 0.0, 2.0))
    return volume_of_series(write_plan(tmp_path / "ct", plan), plan)


@pytest.fixture
def drawn(scan: Volume, tmp_path: Path) -> Callable[..., Path]:
    """A structure set of one region with these contours, each (N, 3) in mm, LPS."""

    def draw(*contours: Any, kind: str = "CLOSED_PLANAR", edit: Callable[[Any], object] = lambda _: None) -> Path:
        path = write(scan, {"x": np.ones(scan.shape, bool)}, tmp_path / "x.dcm")
        made = pydicom.dcmread(path)
        region = made.ROIContourSequence[0]
        like = region.ContourSequence[0]
        region.ContourSequence = []
        for points in contours:
            item = pydicom.Dataset()
            item.update(like)
            item.ContourGeometricType = kind
            item.ContourData = [f"{float(value):.8g}" for value in np.ravel(points)]
            item.NumberOfContourPoints = len(points)
            region.ContourSequence.append(item)
        edit(made)
        made.save_as(path)
        return path

    return draw


def square(low: float, high: float, z: float = 2.0) -> list[tuple[float, float, float]]:
    return [(low, low, z), (high, low, z), (high, high, z), (low, high, z)]


class TestRoundTrip:
    @pytest.mark.parametrize("name", [*PLANS, "uneven"])
    def test_of_series(self, name: str, tmp_path: Path) -> None:
        plan = {**PLANS, "uneven": UNEVEN}[name]
        scan = volume_of_series(write_plan(tmp_path / "ct", plan), plan)
        masks = masks_of(scan.shape)
        found = read_placed(write(scan, masks, tmp_path / "a.dcm"))
        assert found.labels == {1: "Brain tumor", 2: "ring"}
        for name, mask in masks.items():
            numbers = found.numbers(text=name.upper())
            np.testing.assert_array_equal(found.onto(numbers, scan.shape, scan.geometry), mask)

    def test_of_a_file_of_many_frames(self, tmp_path: Path) -> None:
        plan = SeriesPlan(shape=SHAPE)
        scan = volume_of_multi_frame(write_multi_frame(tmp_path / "ct.dcm", plan), plan)
        for name, mask in masks_of(SHAPE).items():
            np.testing.assert_array_equal(read_mask(write(scan, {name: mask}, tmp_path / "a.dcm"), scan), mask)

    @pytest.mark.parametrize("name", PLANS)
    def test_of_one_slice(self, name: str, tmp_path: Path) -> None:
        plan = replace(PLANS[name], shape=(2, 13, 11), places=None)
        scan = read_scan(write_plan(tmp_path / "ct", plan)[0])
        assert isinstance(scan, Image)
        mask = masks_of((1, 13, 11))["Brain tumor"][0]
        np.testing.assert_array_equal(read_mask(write(scan, {"x": mask}, tmp_path / "a.dcm"), scan), mask)

    def test_onto_a_grid_that_is_stored_mirrored_and_permuted(self, tmp_path: Path) -> None:
        plan = replace(PLANS["oblique"], shape=SHAPE)
        scan = volume_of_series(write_plan(tmp_path / "ct", plan), plan)
        mask = masks_of(SHAPE)["Brain tumor"]
        # Columns reversed, then slices and rows exchanged: as another program may store the same scan.
        shape = (SHAPE[1], SHAPE[0], SHAPE[2])
        turn = np.array([[-1.0, 0, 0, shape[2] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        found = read_placed(write(scan, {"x": mask}, tmp_path / "a.dcm"))
        values = found.onto((1,), shape, Geometry(shape, scan.geometry.affine @ turn))
        np.testing.assert_array_equal(values, mask.transpose(1, 0, 2)[:, :, ::-1])


class TestFilling:
    def test_any_polygon_is_filled_as_by_another_program(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        rng = np.random.default_rng(2)
        for _ in range(20):
            # Stars around a centre, so that no side crosses another.
            angles = np.sort(rng.random(9)) * 2 * np.pi
            reach = rng.uniform(1, 4.5, 9)
            corners = np.stack([6 + reach * np.sin(angles), 5 + reach * np.cos(angles)], axis=1)
            points = np.c_[corners[:, 1], corners[:, 0], np.full(9, 4.0)]
            found = read_mask(drawn(points), scan)
            assert not np.delete(found, 2, axis=0).any()
            np.testing.assert_array_equal(found[2], polygon2mask(SHAPE[1:], corners))

    def test_a_contour_within_another_is_a_hole(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        found = read_mask(drawn(square(1.5, 8.5), square(3.5, 6.5), square(4.5, 5.5)), scan)[1]
        expected = np.zeros(SHAPE[1:], bool)
        expected[2:9, 2:9], expected[4:7, 4:7], expected[5, 5] = True, False, True
        np.testing.assert_array_equal(found, expected)

    def test_areas_that_share_a_border_through_centres_share_no_voxel(
        self, scan: Volume, drawn: Callable[..., Path]
    ) -> None:
        left = [(1.0, 1, 2), (4, 1, 2), (4, 7, 2), (1, 7, 2)]
        right = [(4.0, 1, 2), (9, 1, 2), (9, 7, 2), (4, 7, 2)]
        one, other = (read_mask(drawn(points), scan)[1] for points in (left, right))
        assert (int(one.sum()), int(other.sum())) == (18, 30)
        assert not (one & other).any()
        np.testing.assert_array_equal(read_mask(drawn(left, right), scan)[1], one | other)

    def test_a_region_without_contours_is_empty(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        assert not read_mask(drawn(), scan).any()
        # One point, as some programs leave it.
        assert not read_mask(drawn([(3.0, 3, 2)]), scan).any()


class TestRefused:
    @pytest.mark.parametrize(
        ("points", "reason"),
        [
            (square(1, 5, z=2.9), "a contour lies up to 0.45 of a slice beside its scan's slices"),
            ([(1.0, 1, 2), (5, 1, 2), (5, 5, 4)], "of a slice beside its scan's slices"),
            (square(1, 5, z=-2.0), "a contour lies beyond its scan"),
            (square(1, 5, z=10.0), "a contour lies beyond its scan"),
            (square(-1, 5), "a contour lies beyond its scan"),
            (square(1, 11.2), "a contour lies beyond its scan"),
            ([(1.0, 1, float("inf")), (5, 1, 2), (5, 5, 2)], "a contour of it has a corner that is no number"),
        ],
    )
    def test_a_contour_of_another_grid(
        self, scan: Volume, drawn: Callable[..., Path], points: list[Any], reason: str
    ) -> None:
        with pytest.raises(UnreadableScan, match=rf"x\.dcm: .*{reason}") as caught:
            read_mask(drawn(points), scan)
        assert "\n" not in str(caught.value)

    def test_half_a_point(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        def cut(made: Any) -> None:
            contour = made.ROIContourSequence[0].ContourSequence[0]
            contour.ContourData = contour.ContourData[:-1]

        with pytest.raises(UnreadableScan, match="a contour of it holds another number of points than it says"):
            read_mask(drawn(square(1, 5), edit=cut), scan)

    @pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR"])
    def test_a_contour_that_encloses_nothing(self, scan: Volume, drawn: Callable[..., Path], kind: str) -> None:
        with pytest.raises(UnreadableScan, match=rf"its region 1 has contours that enclose nothing \({kind}\)"):
            read_mask(drawn(square(1, 5), kind=kind), scan)

    def test_another_frame_of_reference(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        other = replace(scan, geometry=replace(scan.geometry, frame="1.2.3"))
        # It refers to the scan's own series, whose frame is therefore meant.
        assert read_mask(drawn(square(1, 5)), other).sum() == 16
        other = replace(other, header=None)
        with pytest.raises(UnreadableScan, match="its frame of reference is another than its scan's"):
            read_mask(drawn(square(1, 5)), other)

    def test_a_scan_without_a_place(self, scan: Volume, drawn: Callable[..., Path]) -> None:
        nowhere = replace(scan, geometry=replace(scan.geometry, time=True))
        with pytest.raises(UnreadableScan, match="its scan does not say where its slices lie"):
            read_mask(drawn(square(1, 5)), nowhere)

    def test_no_region_a_missing_scan_and_several_regions(
        self, scan: Volume, drawn: Callable[..., Path], tmp_path: Path
    ) -> None:
        def emptied(made: Any) -> None:
            made.StructureSetROISequence = []

        with pytest.raises(UnreadableScan, match="it is a structure set without regions"):
            read_mask(drawn(edit=emptied), scan)
        with pytest.raises(UnreadableScan, match="it is a structure set, which holds no grid of its own"):
            read_mask(drawn(square(1, 5)))
        several = write(scan, masks_of(SHAPE), tmp_path / "two.dcm")
        with pytest.raises(UnreadableScan, match=r"it holds regions 1, 2; choose the target's with --label NUMBER"):
            read_mask(several, scan)
        with pytest.raises(UnreadableScan, match="it has no region 7; expected one of 1, 2"):
            read_mask(several, scan, label=7)

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
    def test_a_truncated_file(self, scan: Volume, drawn: Callable[..., Path], share: float) -> None:
        path = drawn(square(1, 5), square(3, 4))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        assert is_placed(path)
        with pytest.raises(UnreadableScan, match=r"x\.dcm: ") as caught:
            read_mask(path, scan)
        assert "\n" not in str(caught.value)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real scans of a sibling folder are absent")
class TestOthers:
    FOLDER = SHARED / "rtstruct_phantom"

    def test_contours_of_another_program_lie_on_the_series_that_they_refer_to(self) -> None:
        """rt-utils invents a frame of reference, and draws a hole as a contour within another."""
        scan = read_scan(self.FOLDER)
        assert isinstance(scan, Volume)
        expected = np.zeros(scan.shape, np.bool_)
        to_voxels = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ scan.geometry.affine)
        for contour in pydicom.dcmread(self.FOLDER / "rt.dcm").ROIContourSequence[0].ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            column, row, plane = (to_voxels @ np.c_[points, np.ones(len(points))].T)[:3]
            expected[int(np.rint(plane[0]))] ^= polygon2mask(scan.shape[1:], np.stack([row, column], axis=1))
        assert int(expected.sum()) == 2401 - 958
        np.testing.assert_array_equal(read_mask(self.FOLDER / "rt.dcm", scan), expected)

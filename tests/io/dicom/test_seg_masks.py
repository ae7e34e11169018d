"""Masks out of DICOM SEG, ours and others', on the grid of their scan."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import (
    PLANS,
    UNEVEN,
    SeriesPlan,
    image_of_xray,
    read_plainly,
    volume_of_cine,
    volume_of_multi_frame,
    volume_of_series,
    write_cine,
    write_multi_frame,
    write_series,
    write_xray,
)

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.placed import is_placed
from lexiseg.io.dicom.seg import SegWriter
from lexiseg.io.dicom.seg_masks import read_seg
from lexiseg.io.masks import read_mask, read_stored
from lexiseg.io.segments import Segment, Segments, SegType, WriteOptions
from lexiseg.io.write_grids import nrrd_bytes
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume

SHARED = Path(os.environ.get("LEXISEG_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "dicom"


def write(scan: Scan, masks: dict[str, np.ndarray], path: Path, seg_type: SegType = "binary") -> Path:
    labels = np.zeros(scan.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask & (labels == 0)] = number
    items = tuple(
        Segment(name, name, mask, np.where(mask, 0.8, 0.3).astype(np.float32)) for name, mask in masks.items()
    )
    ((_, content),) = SegWriter().files(Segments(scan, items, labels), WriteOptions(seg_type=seg_type), {})
    path.write_bytes(content)
    return path


def masks_of(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    masks = {"liver": rng.random(shape) > 0.5, "Spleen": rng.random(shape) > 0.7}
    masks["liver"][0] = masks["liver"][-1] = False
    return masks


def series(tmp_path: Path, plan: SeriesPlan) -> Volume:
    return volume_of_series(write_series(tmp_path / "ct", plan), plan)


class TestRoundTrip:
    @pytest.mark.parametrize("seg_type", ["binary", "labelmap", "fractional"])
    @pytest.mark.parametrize("name", [*PLANS, "uneven"])
    def test_of_series(self, name: str, seg_type: SegType, tmp_path: Path) -> None:
        scan = series(tmp_path, {**PLANS, "uneven": UNEVEN}[name])
        masks = masks_of(scan.shape)
        seg = read_seg(write(scan, masks, tmp_path / "a.dcm", seg_type))
        assert seg.labels == {1: "liver", 2: "Spleen"}
        first = seg.onto(seg.numbers(text="Liver"), scan.shape, scan.geometry)
        np.testing.assert_array_equal(first, masks["liver"])
        second = seg.onto(seg.numbers((2,)), scan.shape, scan.geometry)
        lost = masks["liver"] if seg_type == "labelmap" else masks["liver"] & False
        np.testing.assert_array_equal(second, masks["Spleen"] & ~lost)

    def test_onto_a_grid_that_is_stored_mirrored_and_permuted(self, tmp_path: Path) -> None:
        scan = series(tmp_path, PLANS["oblique"])
        masks = masks_of(scan.shape)
        seg = read_seg(write(scan, masks, tmp_path / "a.dcm"))
        # Columns reversed, then slices and rows exchanged: as another program may store the same scan.
        shape = (scan.shape[1], scan.shape[0], scan.shape[2])
        turn = np.array([[-1.0, 0, 0, shape[2] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        geometry = Geometry(shape, scan.geometry.affine @ turn)
        found = seg.onto((1,), shape, geometry)
        np.testing.assert_array_equal(found, masks["liver"].transpose(1, 0, 2)[:, :, ::-1])

    def test_of_one_file_a_cine_and_an_xray(self, tmp_path: Path) -> None:
        plan = SeriesPlan()
        scans: list[Scan] = [
            volume_of_multi_frame(write_multi_frame(tmp_path / "e.dcm", plan), plan),
            volume_of_cine(write_cine(tmp_path / "u.dcm", plan), plan),
            image_of_xray(write_xray(tmp_path / "x.dcm", plan), plan),
        ]
        for scan in scans:
            masks = masks_of(scan.shape)
            path = write(scan, {"liver": masks["liver"]}, tmp_path / "a.dcm")
            np.testing.assert_array_equal(read_mask(path, scan), masks["liver"])


class TestRefused:
    def test_another_frame_of_reference(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        path = write(scan, {"liver": masks_of(scan.shape)["liver"]}, tmp_path / "a.dcm")
        other = replace(scan, geometry=replace(scan.geometry, frame="1.2.3"), header=None)
        with pytest.raises(UnreadableScan, match=r"a\.dcm: its frame of reference is another than its scan's"):
            read_mask(path, other)

    def test_a_grid_between_its_pixels_is_not_resampled(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        path = write(scan, {"liver": masks_of(scan.shape)["liver"]}, tmp_path / "a.dcm")
        moved = scan.geometry.affine.copy()
        moved[0, 3] += 0.3
        with pytest.raises(UnreadableScan, match="it is not resampled"):
            read_mask(path, replace(scan, geometry=replace(scan.geometry, affine=moved)))

    def test_a_smaller_grid(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        path = write(scan, {"liver": np.ones(scan.shape, bool)}, tmp_path / "a.dcm")
        part = Volume(scan.values[:3], replace(scan.geometry, shape=(3, *scan.shape[1:])))
        with pytest.raises(UnreadableScan, match="42 of its pixels lie beyond its scan"):
            read_mask(path, part)

    def test_which_of_several_segments_is_asked_for(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        path = write(scan, masks_of(scan.shape), tmp_path / "a.dcm")
        with pytest.raises(UnreadableScan, match="it holds segments 1, 2; choose the target's with --label NUMBER"):
            read_mask(path, scan)
        with pytest.raises(UnreadableScan, match="it has no segment 7; expected one of 1, 2"):
            read_mask(path, scan, label=7)
        np.testing.assert_array_equal(read_mask(path, scan, label=2), masks_of(scan.shape)["Spleen"])

    def test_without_its_scan(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        with pytest.raises(UnreadableScan, match="a DICOM SEG, which holds no grid of its own; give its scan too"):
            read_mask(write(scan, {"liver": masks_of(scan.shape)["liver"]}, tmp_path / "a.dcm"))

    def test_a_truncated_file_and_one_that_claims_too_much(self, tmp_path: Path) -> None:
        scan = series(tmp_path, SeriesPlan())
        path = write(scan, {"liver": masks_of(scan.shape)["liver"]}, tmp_path / "a.dcm")
        torn = tmp_path / "torn.dcm"
        torn.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(UnreadableScan, match=r"torn\.dcm: "):
            read_mask(torn, scan)
        with pytest.raises(UnreadableScan, match="over the limit of 10"):
            read_seg(path, max_voxels=10)

    def test_what_is_no_seg(self, tmp_path: Path) -> None:
        series(tmp_path, SeriesPlan())
        assert not is_placed(next((tmp_path / "ct").iterdir()))
        (tmp_path / "empty").touch()
        assert not any(is_placed(tmp_path / name) for name in ("empty", "missing", "."))


class TestNrrd:
    MASK = np.random.default_rng(0).random((4, 5, 6)) > 0.5

    @pytest.mark.parametrize("name", ["sheared", "oblique"])
    def test_reads_what_is_written_to_the_bit(self, name: str, tmp_path: Path) -> None:
        scan = Volume(np.zeros((4, 5, 6), np.float32), Geometry((4, 5, 6), PLANS[name].affine))
        for mask in (self.MASK, self.MASK & False):
            (tmp_path / "a.nrrd").write_bytes(nrrd_bytes(mask.astype(np.uint8), scan))
            stored = read_stored(tmp_path / "a.nrrd")
            assert stored.geometry is not None
            np.testing.assert_array_equal(stored.values, mask)
            np.testing.assert_array_equal(stored.geometry.affine, scan.geometry.affine)
            np.testing.assert_array_equal(read_mask(tmp_path / "a.nrrd", scan), mask)

    def test_a_metaimage_too(self, tmp_path: Path) -> None:
        scan = Volume(np.zeros((4, 5, 6), np.float32), Geometry((4, 5, 6), PLANS["oblique"].affine))
        (tmp_path / "a.nrrd").write_bytes(nrrd_bytes(self.MASK.astype(np.uint8), scan))
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nrrd")), str(tmp_path / "a.mha"))
        np.testing.assert_array_equal(read_mask(tmp_path / "a.mha", scan), self.MASK)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"sizes: 6 5 4", b"sizes: 6 5 4000"),
            (b"sizes: 6 5 4", b"sizes: 99999 99999 9"),
            (b"encoding: gzip", b"encoding: gzip\ndata file: ../../secret.raw"),
            (b"type: uint8", b"type: block"),
        ],
    )
    def test_hostile_headers_are_one_line(self, old: bytes, new: bytes, tmp_path: Path) -> None:
        scan = Volume(np.zeros((4, 5, 6), np.float32), Geometry((4, 5, 6), np.diag([1.0, 2, 3, 1])))
        content = nrrd_bytes(self.MASK.astype(np.uint8), scan)
        assert old in content
        (tmp_path / "a.nrrd").write_bytes(content.replace(old, new))
        with pytest.raises(UnreadableScan, match=r"a\.nrrd: ") as error:
            read_mask(tmp_path / "a.nrrd", scan)
        assert "\n" not in str(error.value)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real scans of a sibling folder are absent")
class TestOthers:
    def test_the_liver_is_on_the_liver(self) -> None:
        scan = read_plainly(SHARED / "ct_3slice_liver_seg" / "ct")
        mask = read_mask(SHARED / "ct_3slice_liver_seg" / "seg" / "liver.dcm", scan)
        # Soft tissue, and nowhere near as much of it as where the mask lies.
        assert 20 < np.median(scan.values[mask]) < 80

        def soft(rows: int, columns: int) -> float:
            values = scan.values[np.roll(mask, (rows, columns), axis=(1, 2))]
            return float(((values > 0) & (values < 250)).mean())

        assert soft(0, 0) > 0.05 + max(soft(*step) for step in ((20, 0), (-20, 0), (0, 20), (0, -20)))

    def test_it_is_what_highdicom_reads_and_comes_back_from_our_writer(self, tmp_path: Path) -> None:
        scan = read_plainly(SHARED / "ct_3slice_liver_seg" / "ct")
        path = SHARED / "ct_3slice_liver_seg" / "seg" / "liver.dcm"
        mask = read_mask(path, scan)
        uids = [pydicom.dcmread(frame.file, stop_before_pixels=True).SOPInstanceUID for frame in scan.header.frames]
        read = highdicom.seg.segread(path).get_pixels_by_source_instance(
            uids, combine_segments=False, ignore_spatial_locations=True
        )
        np.testing.assert_array_equal(read[..., 0] > 0, mask)
        again = write(scan, {"liver": mask}, tmp_path / "a.dcm")
        np.testing.assert_array_equal(read_mask(again, scan), mask)
        ours = highdicom.seg.segread(again).get_pixels_by_source_instance(
            uids, combine_segments=False, ignore_spatial_locations=True
        )
        np.testing.assert_array_equal(ours, read)

    def test_the_legacy_converted_ones(self) -> None:
        folder = SHARED / "legacy_enhanced_ct_and_seg"
        scan = read_plainly(folder / "image")
        seg = read_seg(folder / "seg" / "label.seg")
        mask = seg.onto(seg.numbers(text="liver"), scan.shape, scan.geometry)
        expected = highdicom.seg.segread(folder / "seg" / "label.seg").pixel_array
        assert mask.sum() == expected.sum() > 0

    def test_overlapping_segments_and_fractions(self) -> None:
        overlap = read_seg(SHARED / "seg_variants" / "seg_image_ct_binary_overlap.dcm")
        assert overlap.labels == {1: "first segment", 2: "second segment"}
        both = [sum(int(frame.mask.sum()) for frame in overlap.segments[number]) for number in (1, 2)]
        assert min(both) > 0
        fractional = read_seg(SHARED / "seg_variants" / "seg_image_ct_true_fractional.dcm")
        pixels = pydicom.dcmread(fractional.path).pixel_array
        found = sum(int(frame.mask.sum()) for frame in fractional.segments[1])
        assert found == (pixels >= 127.5).sum() > 0
        assert fractional.notes == ("fractional of 0 to 255: at least half of it is inside",)

    def test_one_frame_on_one_image(self) -> None:
        path = SHARED / "seg_variants" / "seg_image_ct_binary_single_frame.dcm"
        pixels = pydicom.dcmread(path).pixel_array
        found = read_mask(path, Image(np.zeros((128, 128), np.float32)))
        np.testing.assert_array_equal(found, pixels.reshape(128, 128) > 0)

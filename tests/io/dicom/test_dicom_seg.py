"""DICOM SEG that is written: read by highdicom's own API, by pydicom alone, and by SimpleITK."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import (
    PLANS,
    UNEVEN,
    SeriesPlan,
    frame_order,
    image_of_xray,
    volume_of_cine,
    volume_of_multi_frame,
    volume_of_series,
    write_cine,
    write_multi_frame,
    write_series,
    write_xray,
)

from lexiseg.errors import FormatMismatch
from lexiseg.io.dicom.seg import SegWriter
from lexiseg.io.segments import Segment, Segments, SegType, WriteOptions
from lexiseg.values.scans import Image, Scan, Volume

PROVENANCE = {"preset": {"name": "demo"}, "encoder": {"sha256": "ab" * 32}, "segmenter": {"sha256": "cd" * 32}}


def masks_of(shape: tuple[int, ...], *, count: int = 2) -> list[np.ndarray]:
    """Overlapping masks; the first slice and the last are empty in all of them."""
    rng = np.random.default_rng(7)
    masks = [rng.random(shape) > 0.6 for _ in range(count)]
    if len(shape) == 3:
        for mask in masks:
            mask[[0, -1]] = False
    return masks


def segments_of(scan: Scan, *names: str, masks: list[np.ndarray] | None = None) -> Segments:
    names = names or ("left lung", "Größe")
    masks = masks or masks_of(scan.shape, count=len(names))
    labels = np.zeros(scan.shape, np.uint8)
    for number, mask in reversed(list(enumerate(masks, start=1))):
        labels[mask] = number
    items = tuple(
        Segment(name, name.replace(" ", "-"), mask, np.where(mask, 0.75, 0.25).astype(np.float32))
        for name, mask in zip(names, masks, strict=True)
    )
    return Segments(scan, items, labels, PROVENANCE)


def written(segments: Segments, path: Path, seg_type: SegType = "binary", notes: dict[str, str] | None = None) -> Path:
    ((end, content),) = SegWriter().files(segments, WriteOptions(seg_type=seg_type), {} if notes is None else notes)
    assert end == "mask"
    path.write_bytes(content)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Volume:
    return volume_of_series(write_series(tmp_path / "ct", SeriesPlan()), SeriesPlan())


def lps(volume: Volume) -> np.ndarray:
    """The affine as highdicom has it: slice, row and column to LPS."""
    return np.asarray(np.diag([-1.0, -1, 1, 1]) @ volume.geometry.affine)[:, [2, 1, 0, 3]]


class TestPlaces:
    @pytest.mark.parametrize("name", PLANS)
    def test_highdicom_reads_the_masks_where_they_were(self, name: str, tmp_path: Path) -> None:
        plan = PLANS[name]
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        segments = segments_of(scan)
        seg = highdicom.seg.segread(written(segments, tmp_path / "a.dcm"))
        found = {}
        for group, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
            number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            position = tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
            found[number, position] = frame.astype(bool)
        filled = {
            (number, tuple(float(f"{v:.10g}") for v in map(float, pydicom.dcmread(frame.file).ImagePositionPatient))): (
                item.mask[k]
            )
            for number, item in enumerate(segments.items, start=1)
            for k, frame in enumerate(scan.header.frames)
            if item.mask[k].any()
        }
        assert {key: mask.tobytes() for key, mask in found.items()} == {
            key: mask.tobytes() for key, mask in filled.items()
        }
        shared = seg.SharedFunctionalGroupsSequence[0]
        assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [float(f"{v:.10g}") for v in plan.spacing]

    @pytest.mark.parametrize("name", [name for name in PLANS if name != "sheared"])
    def test_highdicoms_volume_has_the_scans_affine(self, name: str, tmp_path: Path) -> None:
        plan = PLANS[name]
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        masks = [np.ones(scan.shape, np.bool_)]
        seg = highdicom.seg.segread(written(segments_of(scan, "liver", masks=masks), tmp_path / "a.dcm"))
        volume = seg.get_volume(combine_segments=True, relabel=True)
        wanted = lps(scan)
        # highdicom counts slices so that the axes are right-handed, whatever the source's order.
        # It takes their direction from the orientation, of six digits, over 10 mm.
        if not np.allclose(volume.affine, wanted, rtol=0, atol=1e-5):
            volume = volume.flip_spatial(0)
        np.testing.assert_allclose(volume.affine, wanted, rtol=0, atol=1e-5)
        assert volume.array.all()

    @pytest.mark.parametrize("name", [name for name in PLANS if name != "sheared"])
    def test_simpleitk_reads_the_same_places(self, name: str, tmp_path: Path) -> None:
        # Frames of whole bytes: ITK's reader misreads the last bits of others.
        plan = replace(PLANS[name], shape=(5, 6, 8))
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        mask = np.random.default_rng(3).random(scan.shape) > 0.5
        image = sitk.ReadImage(str(written(segments_of(scan, "liver", masks=[mask]), tmp_path / "a.dcm")))
        array = sitk.GetArrayFromImage(image) > 0
        assert array.sum() == mask.sum()
        for slice_, row, column in np.argwhere(mask):
            place = np.diag([-1.0, -1, 1, 1]) @ scan.geometry.affine @ [column, row, slice_, 1]
            index = image.TransformPhysicalPointToIndex(place[:3].tolist())
            assert image[index] > 0

    def test_uneven_slices_keep_their_places(self, tmp_path: Path) -> None:
        scan = volume_of_series(write_series(tmp_path / "ct", UNEVEN), UNEVEN)
        seg = pydicom.dcmread(written(segments_of(scan, "liver", masks=[np.ones(scan.shape, bool)]), tmp_path / "a"))
        heights = sorted(
            float(group.PlanePositionSequence[0].ImagePositionPatient[2])
            for group in seg.PerFrameFunctionalGroupsSequence
        )
        np.testing.assert_array_equal(heights, 40 + 2.5 * np.array(UNEVEN.places))
        assert "SpacingBetweenSlices" not in seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]

    def test_frames_of_one_file_are_named_by_number(self, tmp_path: Path) -> None:
        plan = SeriesPlan()
        scan = volume_of_multi_frame(write_multi_frame(tmp_path / "ct.dcm", plan), plan)
        segments = segments_of(scan, "liver")
        seg = pydicom.dcmread(written(segments, tmp_path / "a.dcm"))
        order = frame_order(plan).tolist()
        for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            plane = order[int(source.ReferencedFrameNumber) - 1]
            np.testing.assert_array_equal(pixels > 0, segments.items[0].mask[plane])
            assert list(group.PlanePositionSequence[0].ImagePositionPatient) == pytest.approx(plan.position(plane))
        (series,) = seg.ReferencedSeriesSequence
        assert len(series.ReferencedInstanceSequence) == 1

    def test_where_the_files_places_are_not_the_scans_the_scans_count(self, tmp_path: Path) -> None:
        """A mosaic's file says where its one large picture lies, and a reader knows better."""
        plan = SeriesPlan()
        files = write_series(tmp_path / "ct", plan)
        scan = volume_of_series(files, plan)
        moved = scan.geometry.affine.copy()
        moved[:3, 3] += (1.0, 2.0, 3.0)
        scan = replace(scan, geometry=replace(scan.geometry, affine=moved))
        seg = pydicom.dcmread(written(segments_of(scan, "liver", masks=[np.ones(scan.shape, bool)]), tmp_path / "a"))
        first = min(
            (group.PlanePositionSequence[0].ImagePositionPatient for group in seg.PerFrameFunctionalGroupsSequence),
            key=lambda position: float(position[2]),
        )
        np.testing.assert_allclose(np.array(first, float), np.add(plan.origin, (-1.0, -2.0, 3.0)))


class TestContent:
    def test_every_source_is_referred_to_and_each_frame_names_its_own(self, scan: Volume, tmp_path: Path) -> None:
        segments = segments_of(scan)
        seg = pydicom.dcmread(written(segments, tmp_path / "a.dcm"))
        headers = [pydicom.dcmread(frame.file) for frame in scan.header.frames]
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == headers[0].SeriesInstanceUID
        assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
            header.SOPInstanceUID for header in headers
        }
        by_uid = {header.SOPInstanceUID: k for k, header in enumerate(headers)}
        for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            mask = segments.items[number - 1].mask[by_uid[source.ReferencedSOPInstanceUID]]
            np.testing.assert_array_equal(pixels > 0, mask)
            assert "ReferencedFrameNumber" not in source
        # Two slices of five are empty in both segments.
        assert seg.NumberOfFrames == 6

    def test_says_who_made_it_and_of_whom(self, scan: Volume, tmp_path: Path) -> None:
        seg = pydicom.dcmread(written(segments_of(scan), tmp_path / "a.dcm"))
        assert (seg.PatientID, str(seg.PatientName), seg.StudyID) == ("ID-77", "Doe^Jane", "S1")
        first, second = seg.SegmentSequence
        assert (first.SegmentLabel, second.SegmentLabel) == ("left lung", "Größe")
        kind = first.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
        assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
        assert second.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99LEXISEG"
        algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == "lexiseg"
        assert f"encoder=sha256:{'ab' * 32}" in algorithm.AlgorithmParameters
        assert seg.SegmentsOverlap == "YES"

    def test_equal_masks_are_equal_files_and_others_have_other_uids(self, scan: Volume, tmp_path: Path) -> None:
        one, two = (written(segments_of(scan), tmp_path / name) for name in "ab")
        assert one.read_bytes() == two.read_bytes()
        masks = masks_of(scan.shape)
        masks[0][2, 3, 3] ^= True
        other = pydicom.dcmread(written(segments_of(scan, masks=masks), tmp_path / "c"))
        assert other.SOPInstanceUID != pydicom.dcmread(one).SOPInstanceUID
        segments = segments_of(scan)
        drawn = replace(segments, items=tuple(replace(each, algorithm_type="MANUAL") for each in segments.items))
        by_hand = pydicom.dcmread(written(drawn, tmp_path / "d"))
        assert by_hand.SOPInstanceUID != pydicom.dcmread(one).SOPInstanceUID
        # The images' own day, not today.
        assert (other.ContentDate, other.InstanceCreationDate) == ("20210304", "20210304")

    def test_no_random_uid_is_left(self, scan: Volume, tmp_path: Path) -> None:
        content = written(segments_of(scan), tmp_path / "a").read_bytes()
        assert b"1.2.826.0.1.3680043.10.511" not in content

    def test_a_label_map_gives_each_voxel_to_one(self, scan: Volume, tmp_path: Path) -> None:
        segments, notes = segments_of(scan), {}
        path = written(segments, tmp_path / "a", "labelmap", notes)
        seg = highdicom.seg.segread(path)
        assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
        assert notes == {"labelmap": "targets overlap: each voxel belongs to one of them, as in the label map"}
        volume = seg.get_volume(combine_segments=True)
        found = volume if np.allclose(volume.affine[:3, 0], lps(scan)[:3, 0]) else volume.flip_spatial(0)
        np.testing.assert_array_equal(found.array, segments.labels[1:-1])

    def test_fractional_holds_probabilities_to_a_255th(self, scan: Volume, tmp_path: Path) -> None:
        segments = segments_of(scan, "liver")
        seg = highdicom.seg.segread(written(segments, tmp_path / "a", "fractional"))
        assert (seg.MaximumFractionalValue, seg.SegmentationFractionalType) == (255, "PROBABILITY")
        volume = seg.get_volume(combine_segments=False, rescale_fractional=True)
        found = volume if np.allclose(volume.affine[:3, 0], lps(scan)[:3, 0]) else volume.flip_spatial(0)
        wanted = segments.items[0].probability
        np.testing.assert_allclose(found.array[..., 0], wanted, atol=0.5 / 255 + 1e-6)

    def test_fractional_says_what_a_cut_at_half_would_change(self, scan: Volume, tmp_path: Path) -> None:
        segments, notes = segments_of(scan), {}
        for item, low in zip(segments.items, (127, 128), strict=True):
            item.probability[:] = np.where(item.mask, 1, 0)  # type: ignore[index]
            item.probability[tuple(np.argwhere(item.mask)[0])] = low / 255  # type: ignore[index]
        written(segments, tmp_path / "a", "fractional", notes)
        first = segments.items[0]
        told = f"of {first.name} in 1 voxels, its mask has {first.mask.sum()}"
        assert notes["fractional"] == f"cut at half the probabilities differ from the masks: {told}"
        first.probability[first.mask] = 1  # type: ignore[index]
        notes.clear()
        written(segments, tmp_path / "b", "fractional", notes)
        assert "fractional" not in notes

    def test_probabilities_that_were_not_kept_are_no_masks(self, scan: Volume) -> None:
        segments = segments_of(scan, "liver")
        bare = replace(segments, items=tuple(replace(item, probability=None) for item in segments.items))
        with pytest.raises(FormatMismatch, match="probabilities were not kept"):
            list(SegWriter().files(bare, WriteOptions(seg_type="fractional"), {}))

    def test_what_is_absent_has_no_segment_and_says_so(self, scan: Volume, tmp_path: Path) -> None:
        masks, notes = masks_of(scan.shape), {}
        masks[0][:] = False
        seg = pydicom.dcmread(written(segments_of(scan, masks=masks), tmp_path / "a", notes=notes))
        assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Größe"]
        assert notes == {"dicom-seg": "no segment of what was not found: left lung"}
        masks[1][:] = False
        assert list(SegWriter().files(segments_of(scan, masks=masks), WriteOptions(), notes)) == []


def bare(plan: SeriesPlan) -> SeriesPlan:
    """A header with as little as a file can have."""
    gone = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
            "AccessionNumber", "ReferringPhysicianName", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
            "FrameOfReferenceUID", "PixelSpacing", "SliceThickness")  # fmt: skip
    return replace(plan, header=dict.fromkeys(gone))


class TestPoorHeaders:
    def test_what_is_missing_is_empty(self, tmp_path: Path) -> None:
        plan = bare(SeriesPlan())
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        notes: dict[str, str] = {}
        seg = pydicom.dcmread(written(segments_of(scan), tmp_path / "a.dcm", notes=notes))
        assert (seg.PatientID, seg.StudyID, seg.StudyDate) in [("", "", ""), (None, None, "")]
        assert seg.FrameOfReferenceUID.startswith("2.25.")
        assert "frame_of_reference" in notes
        assert seg.ContentDate == "19000101"
        # From the affine, since the files do not say it.
        assert list(seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing) == [0.8, 0.8]

    @pytest.mark.parametrize(
        "header",
        [
            {"PatientSex": "FEMALE"},
            {"StudyTime": "noon"},
            {"StudyDate": "2021.03.04"},
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.999"},
            {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"},
            {"ImageComments": "x" * 9999},
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_odd_headers_are_taken(self, header: dict[str, Any], tmp_path: Path) -> None:
        plan = SeriesPlan(header=header)
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        seg = pydicom.dcmread(written(segments_of(scan), tmp_path / "a.dcm"))
        assert str(seg.PatientName) == header.get("PatientName", "Doe^Jane")
        if "SOPClassUID" in header:
            reference = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
            assert reference.ReferencedSOPClassUID == header["SOPClassUID"]

    def test_without_a_uid_there_is_nothing_to_refer_to(self, tmp_path: Path) -> None:
        plan = SeriesPlan(header={"SOPInstanceUID": None})
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        with pytest.raises(FormatMismatch, match="have no SOP Instance UID"):
            list(SegWriter().files(segments_of(scan), WriteOptions(), {}))

    def test_a_file_that_is_gone_is_said(self, scan: Volume) -> None:
        scan.header.frames[2].file.unlink()
        with pytest.raises(FormatMismatch, match=r"cannot be read again \(No such file"):
            list(SegWriter().files(segments_of(scan), WriteOptions(), {}))

    def test_slices_that_no_file_holds_are_left_out(self, tmp_path: Path) -> None:
        plan = SeriesPlan()
        files: list[Path | None] = list(write_series(tmp_path / "ct", plan))
        files[2] = None
        scan = volume_of_series(files, plan)
        masks, notes = [np.ones(scan.shape, np.bool_)], {}
        seg = pydicom.dcmread(written(segments_of(scan, "liver", masks=masks), tmp_path / "a.dcm", notes=notes))
        assert seg.NumberOfFrames == 4
        assert notes == {"dicom-seg-slices": "1 slices of the mask have no file and are left out"}

    def test_a_scan_of_another_kind_is_named(self) -> None:
        reason = SegWriter().why_not(Image(np.zeros((4, 5), np.float32)))
        assert reason == "it was read from no DICOM files to refer to"


class TestWithoutAPlace:
    @pytest.mark.parametrize("seg_type", ["binary", "labelmap", "fractional"])
    def test_a_cines_frames_refer_to_its_frames(self, seg_type: SegType, tmp_path: Path) -> None:
        plan = SeriesPlan()
        scan = volume_of_cine(write_cine(tmp_path / "us.dcm", plan), plan)
        segments = segments_of(scan, "liver")
        path = written(segments, tmp_path / "a.dcm", seg_type)
        seg = pydicom.dcmread(path)
        assert "FrameOfReferenceUID" not in seg
        assert not any("PlanePositionSequence" in group for group in seg.PerFrameFunctionalGroupsSequence)
        source = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        read = highdicom.seg.segread(path)
        found = read.get_pixels_by_source_frame(
            source, list(range(1, 6)), combine_segments=False, assert_missing_frames_are_empty=True
        )
        wanted = segments.items[0].mask
        np.testing.assert_array_equal(found[..., 0] > 0.5, wanted)

    @pytest.mark.parametrize("seg_type", ["binary", "labelmap", "fractional"])
    def test_an_xray(self, seg_type: SegType, tmp_path: Path) -> None:
        plan = SeriesPlan()
        scan = image_of_xray(write_xray(tmp_path / "dx.dcm", plan), plan)
        segments = segments_of(scan, "left lung", "heart")
        path = written(segments, tmp_path / "a.dcm", seg_type)
        seg = pydicom.dcmread(path)
        assert "FrameOfReferenceUID" not in seg
        source = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        read: Callable[..., Any] = highdicom.seg.segread(path).get_pixels_by_source_instance
        found = read([source], combine_segments=False)[0]
        for number, item in enumerate(segments.items, start=1):
            wanted = segments.labels == number if seg_type == "labelmap" else item.mask
            np.testing.assert_array_equal(found[..., number - 1] > 0.5, wanted)

"""RT structure sets that are written, read by pydicom alone and rasterised again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import (
    PLANS,
    UNEVEN,
    SeriesPlan,
    image_of_xray,
    volume_of_cine,
    volume_of_multi_frame,
    volume_of_series,
    write_cine,
    write_multi_frame,
    write_series,
    write_xray,
)
from skimage.draw import polygon2mask

from lexiseg.errors import FormatMismatch
from lexiseg.io.dicom.pseudonyms import Pseudonyms
from lexiseg.io.dicom.rtstruct import RtstructWriter
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.values.scans import Scan, Volume


def masks_of(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """A random mask with holes, and a ring within a ring."""
    rng = np.random.default_rng(5)
    ring = np.zeros(shape, np.bool_)
    ring[1:3] = True
    ring[1:3, 2:-2, 2:-2] = False
    return {"brain tumor": rng.random(shape) > 0.4, "Größe": ring}


def segments_of(scan: Scan, masks: dict[str, np.ndarray]) -> Segments:
    labels = np.zeros(scan.shape, np.uint8)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask] = number
    return Segments(scan, tuple(Segment(name, name, mask) for name, mask in masks.items()), labels)


def written(segments: Segments, path: Path, options: WriteOptions | None = None) -> pydicom.Dataset:
    notes: dict[str, str] = {}
    ((end, content),) = RtstructWriter().files(segments, options or WriteOptions(), notes)
    assert end == "mask"
    path.write_bytes(content)
    return pydicom.dcmread(path)


def rasterised(dataset: pydicom.Dataset, volume: Volume) -> dict[str, np.ndarray]:
    """Each region's mask: contours to the volume's voxels by its affine, and filled slice by slice."""
    names = {roi.ROINumber: roi.ROIName for roi in dataset.StructureSetROISequence}
    found = {}
    to_voxels = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ volume.geometry.affine)
    for region in dataset.ROIContourSequence:
        mask = np.zeros(volume.shape, bool)
        for contour in region.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            column, row, along = (to_voxels @ np.c_[points, np.ones(len(points))].T)[:3]
            if volume.geometry.positions is not None:
                along = along * np.linalg.norm(volume.geometry.affine[:3, 2])
                (plane,) = {int(np.argmin(np.abs(np.array(volume.geometry.positions) - each))) for each in along}
            else:
                plane = int(np.rint(along.mean()))
                np.testing.assert_allclose(along, plane, atol=1e-5)
            mask[plane] |= polygon2mask(mask[plane].shape, np.stack([row, column], axis=1))
        found[names[region.ReferencedROINumber]] = mask
    return found


class TestRoundTrip:
    @pytest.mark.parametrize("name", [*PLANS, "uneven"])
    def test_of_series_in_any_order(self, name: str, tmp_path: Path) -> None:
        plan = replace({**PLANS, "uneven": UNEVEN}[name], shape=(5, 13, 11))
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        masks = masks_of(scan.shape)
        found = rasterised(written(segments_of(scan, masks), tmp_path / "a.dcm"), scan)
        assert found.keys() == masks.keys()
        for phrase, mask in masks.items():
            np.testing.assert_array_equal(found[phrase], mask)

    def test_of_a_file_of_many_frames(self, tmp_path: Path) -> None:
        plan = SeriesPlan(shape=(5, 13, 11))
        scan = volume_of_multi_frame(write_multi_frame(tmp_path / "ct.dcm", plan), plan)
        masks = masks_of(scan.shape)
        dataset = written(segments_of(scan, masks), tmp_path / "a.dcm")
        found = rasterised(dataset, scan)
        for phrase, mask in masks.items():
            np.testing.assert_array_equal(found[phrase], mask)
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            plane = round((float(contour.ContourData[2]) - 40) / 2.5)
            image = contour.ContourImageSequence[0]
            assert image.ReferencedFrameNumber == scan.header.frames[plane].number + 1

    def test_of_a_contour_of_more_than_64_kib(self, tmp_path: Path) -> None:
        plan = replace(PLANS["oblique"], shape=(1, 96, 96))
        scan = volume_of_series(write_series(tmp_path / "ct", plan), plan)
        comb = np.zeros(scan.shape, np.bool_)
        comb[0, 1:-1, 1:-1:2] = comb[0, 1, 1:-1] = True
        comb[0, 2:-1:3, 2:-1] |= np.random.default_rng(0).random((31, 93)) > 0.5
        dataset = written(segments_of(scan, {"comb": comb}), tmp_path / "a.dcm")
        longest = max(len("\\".join(map(str, c.ContourData))) for c in dataset.ROIContourSequence[0].ContourSequence)
        assert longest > 2**16
        np.testing.assert_array_equal(rasterised(dataset, scan)["comb"], comb)


class TestContent:
    @pytest.fixture
    def scan(self, tmp_path: Path) -> Volume:
        plan = replace(PLANS["oblique"], origin=(-1234.5678, 987.654321, 0.001))
        return volume_of_series(write_series(tmp_path / "ct", plan), plan)

    def test_decimal_strings_are_short_enough(self, scan: Volume, tmp_path: Path) -> None:
        written(segments_of(scan, masks_of(scan.shape)), tmp_path / "a.dcm")
        # As they lie in the file, not as pydicom shows them.
        dataset = pydicom.dcmread(tmp_path / "a.dcm")
        numbers = 0
        for region in dataset.ROIContourSequence:
            for contour in region.ContourSequence:
                for value in contour.ContourData:
                    numbers += 1
                    assert len(value.original_string) <= 16
        assert numbers > 100

    def test_instances_names_and_colours(self, scan: Volume, tmp_path: Path) -> None:
        dataset = written(segments_of(scan, masks_of(scan.shape)), tmp_path / "a.dcm")
        headers = [pydicom.dcmread(frame.file) for frame in scan.header.frames]
        (reference,) = dataset.ReferencedFrameOfReferenceSequence
        assert reference.FrameOfReferenceUID == headers[0].FrameOfReferenceUID == dataset.FrameOfReferenceUID
        (series,) = reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence
        assert series.SeriesInstanceUID == headers[0].SeriesInstanceUID
        assert [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence] == [
            header.SOPInstanceUID for header in headers
        ]
        assert [roi.ROIName for roi in dataset.StructureSetROISequence] == ["brain tumor", "Größe"]
        assert [list(region.ROIDisplayColor) for region in dataset.ROIContourSequence] == [
            [230, 159, 0],
            [86, 180, 233],
        ]
        by_place = {tuple(header.ImagePositionPatient): header.SOPInstanceUID for header in headers}
        normal = np.cross(*np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3))
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            height = normal @ np.array(contour.ContourData[:3], float)
            nearest = min(by_place, key=lambda place: abs(normal @ np.array(place, float) - height))
            assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == by_place[nearest]
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
        code = dataset.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("108369006", "SCT")
        assert (dataset.PatientID, str(dataset.PatientName)) == ("ID-77", "Doe^Jane")

    def test_equal_masks_are_equal_files(self, scan: Volume, tmp_path: Path) -> None:
        segments = segments_of(scan, masks_of(scan.shape))
        written(segments, tmp_path / "a.dcm")
        written(segments, tmp_path / "b.dcm")
        assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()

    def test_pseudonyms_replace_the_patient(self, scan: Volume, tmp_path: Path) -> None:
        options = WriteOptions(pseudonyms=Pseudonyms(bytes(range(32))))
        dataset = written(segments_of(scan, masks_of(scan.shape)), tmp_path / "a.dcm", options)
        content = (tmp_path / "a.dcm").read_bytes()
        for secret in (b"Doe", b"ID-77", b"19610203", b"20210304", b"1.2.826.0.1.3680043.8.498.77", b"Roe", b"A-1"):
            assert secret not in content
        assert rasterised(dataset, scan).keys() == {"brain tumor", "Größe"}

    def test_what_is_absent_writes_nothing(self, scan: Volume) -> None:
        notes: dict[str, str] = {}
        segments = segments_of(scan, {"liver": np.zeros(scan.shape, bool)})
        assert list(RtstructWriter().files(segments, WriteOptions(), notes)) == []
        assert notes == {"rtstruct": "no contour of what was not found: liver"}


class TestRefused:
    def test_a_cine_has_no_place(self, tmp_path: Path) -> None:
        scan = volume_of_cine(write_cine(tmp_path / "us.dcm", SeriesPlan()), SeriesPlan())
        assert RtstructWriter().why_not(scan) == "its frames have no place in the patient"

    def test_an_xray_does_not_say_its_place(self, tmp_path: Path) -> None:
        scan = image_of_xray(write_xray(tmp_path / "dx.dcm", SeriesPlan()), SeriesPlan())
        assert RtstructWriter().why_not(scan) == ""
        segments = segments_of(scan, {"heart": np.ones(scan.shape, bool)})
        with pytest.raises(FormatMismatch, match="do not say where it lies in the patient"):
            list(RtstructWriter().files(segments, WriteOptions(), {}))

"""Series of one file a slice: sorted, placed, and every irregularity told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from study_files import AFFINES, FLIP, SHAPE, VALUES, affine_of, plain_dataset, read_volume, write_series

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.read import read_scan


class TestPlaces:
    @pytest.mark.parametrize("name", AFFINES)
    @pytest.mark.parametrize("seed", [1, 2])
    def test_a_cuboid_lies_where_its_files_say(self, tmp_path: Path, name: str, seed: int) -> None:
        """Where each bright voxel lies is worked out file by file from its own header, and from the affine."""
        values = np.zeros(SHAPE, np.int16)
        values[2:5, 1:4, 2:4] = np.arange(1, 19).reshape(3, 3, 2)
        files = write_series(tmp_path, values, AFFINES[name], seed=seed)
        planted = {}
        for file in files:
            header = pydicom.dcmread(file)
            across, down = (
                np.array(header.ImageOrientationPatient[:3], float),
                np.array(header.ImageOrientationPatient[3:], float),
            )
            for row, column in np.argwhere(header.pixel_array):
                place = np.array(header.ImagePositionPatient, float)
                place = place + column * header.PixelSpacing[1] * across + row * header.PixelSpacing[0] * down
                planted[int(header.pixel_array[row, column])] = FLIP[:3, :3] @ place
        volume = read_volume(tmp_path)
        assert volume.values.dtype == np.int16
        found = {
            int(volume.values[d, r, c]): (volume.geometry.affine @ [c, r, d, 1])[:3]
            for d, r, c in np.argwhere(volume.values)
        }
        assert found.keys() == planted.keys()
        for value, place in planted.items():
            # Decimal strings have 16 characters: positions are rounded by 1e-12 mm of a metre at most.
            np.testing.assert_allclose(found[value], place, atol=1e-9)

    @pytest.mark.parametrize("name", AFFINES)
    def test_the_affine_is_made_of_the_headers_numbers_to_the_bit(self, tmp_path: Path, name: str) -> None:
        files = write_series(tmp_path, VALUES, AFFINES[name], seed=5)
        volume = read_volume(tmp_path)
        assert isinstance(volume.header, DicomInstances)
        assert set(volume.header.files) == set(files)
        headers = [pydicom.dcmread(frame.file) for frame in volume.header.frames if frame is not None]
        first, last = headers[0], headers[-1]
        across, down = (np.array(first.ImageOrientationPatient[part], float) for part in (slice(3), slice(3, 6)))
        ends = [np.array(each.ImagePositionPatient, float) for each in (first, last)]
        assert float(np.cross(across, down) @ (ends[1] - ends[0])) > 0
        expected = np.eye(4)
        expected[:3, 0] = across * float(first.PixelSpacing[1])
        expected[:3, 1] = down * float(first.PixelSpacing[0])
        expected[:3, 2] = (ends[1] - ends[0]) / (len(headers) - 1)
        expected[:3, 3] = ends[0]
        np.testing.assert_array_equal(volume.geometry.affine, FLIP @ expected)
        for index, header in enumerate(headers):
            np.testing.assert_array_equal(volume.values[index], header.pixel_array)
        assert volume.geometry.frame == first.FrameOfReferenceUID
        assert volume.geometry.regular

    def test_a_tilted_gantry_is_said(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["sheared"])
        assert "the affine is sheared" in read_volume(tmp_path).notes["tilt"]

    def test_rounded_positions_are_even(self, tmp_path: Path) -> None:
        affine = affine_of(np.diag([-1.0, -1, 1]), (1, 1, 0.625), (0, 0, 0))

        def rounded(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [0, 0, f"{0.625 * index:.1f}"]

        write_series(tmp_path, VALUES, affine, edit=rounded)
        volume = read_volume(tmp_path)
        assert volume.geometry.regular
        assert volume.notes["spacing"].startswith("slices lie up to 0.067 mm off")

    def test_a_file_that_is_named_is_one_image(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        assert read_scan(files[3]).shape == (6, 5)


class TestGaps:
    def test_a_missing_slice_is_left_empty_and_said(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        files[2].unlink()
        volume = read_volume(tmp_path)
        assert volume.shape == SHAPE
        assert np.isnan(volume.values[2]).all()
        np.testing.assert_array_equal(np.delete(volume.values, 2, axis=0), np.delete(VALUES, 2, axis=0))
        assert volume.notes["missing"] == "1 slice missing, left empty (place 3 of 7)"
        assert volume.header.frames[2] is None

    def test_uneven_slices_keep_their_places(self, tmp_path: Path) -> None:
        places = [0, 2.0, 4.0, 6.0, 9.5, 13.0, 16.5]

        def moved(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [0, 0, places[index]]

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=moved)
        volume = read_volume(tmp_path)
        assert volume.geometry.positions == tuple(places)
        assert not volume.geometry.regular
        assert volume.spacing == pytest.approx((16.5 / 6, 0.8, 0.7))
        assert volume.notes["spacing"].startswith("uneven: slices are 2 to 3.5 mm apart")

    def test_two_far_blocks_are_not_filled(self, tmp_path: Path) -> None:
        places = [0, 1, 2, 3, 500, 501, 502]

        def moved(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [0, 0, places[index]]

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=moved)
        assert read_volume(tmp_path).shape == SHAPE

    def test_a_copy_of_a_slice_is_left_out_and_said(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        (tmp_path / "copy.dcm").write_bytes(files[1].read_bytes())
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.values, VALUES)
        assert volume.notes["duplicates"] == "1 slice at the place of another, left out"

    def test_another_slice_at_its_place_is_refused(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        other = pydicom.dcmread(files[1])
        other.PixelData = (VALUES[1] + 1).tobytes()
        other.save_as(tmp_path / "other.dcm")
        with pytest.raises(UnreadableScan, match="two different slices lie at one place"):
            read_scan(tmp_path)


class TestSeveralVolumes:
    @pytest.mark.parametrize(
        ("keyword", "told"),
        [
            ("TemporalPositionIdentifier", [1, 2, 3]),
            ("EchoTime", [4.6, 2.3, 46.0]),
            ("AcquisitionNumber", [1, 2, 3]),
            ("TriggerTime", [0, 30, 60]),
            ("ImageType", [["ORIGINAL", "PRIMARY", part] for part in "IMR"]),
        ],
    )
    def test_are_told_apart_by(self, tmp_path: Path, keyword: str, told: list[Any]) -> None:
        uid = "1.2.3"
        for k, value in enumerate(told):
            elements = {"SeriesInstanceUID": uid, keyword: value}
            write_series(tmp_path / str(k), VALUES + k, AFFINES["oblique"], seed=k, elements=elements)
        with pytest.raises(UnreadableScan, match="it holds 3 volumes; choose one of them with --volume 1 to 3"):
            read_scan(tmp_path)
        order = sorted(range(3), key=lambda k: told[k])
        for number, k in enumerate(order, start=1):
            volume = read_volume(tmp_path, volume=number)
            np.testing.assert_array_equal(volume.values, VALUES + k)
            assert volume.notes["volume"] == f"{number} of 3, told apart by {keyword}"
        with pytest.raises(UnreadableScan, match="there is no volume 4 in it"):
            read_scan(tmp_path, volume=4)

    def test_by_two_tags(self, tmp_path: Path) -> None:
        for k, (echo, time) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
            elements = {"SeriesInstanceUID": "1.2.3", "EchoTime": echo, "TemporalPositionIdentifier": time}
            write_series(tmp_path / str(k), VALUES + k, AFFINES["axial"], seed=k, elements=elements)
        shown = [read_volume(tmp_path, volume=number).values for number in (1, 2, 3, 4)]
        for values, k in zip(shown, (0, 2, 1, 3), strict=True):
            np.testing.assert_array_equal(values, VALUES + k)

    def test_by_their_numbers_where_nothing_else_does(self, tmp_path: Path) -> None:
        for k in range(2):

            def numbered(made: Dataset, index: int, k: int = k) -> None:
                made.InstanceNumber = 1 + index + k * len(VALUES)

            write_series(tmp_path / str(k), VALUES + k, AFFINES["axial"], edit=numbered,
                         elements={"SeriesInstanceUID": "1.2.3"})  # fmt: skip
        assert read_volume(tmp_path, volume=2).notes["volume"] == "2 of 2, told apart by Instance Number"
        np.testing.assert_array_equal(read_volume(tmp_path, volume=2).values, VALUES + 1)

    def test_one_that_is_incomplete(self, tmp_path: Path) -> None:
        for k in range(2):
            elements = {"SeriesInstanceUID": "1.2.3", "EchoTime": 1 + k}
            files = write_series(tmp_path / str(k), VALUES + k, AFFINES["axial"], elements=elements)
        files[3].unlink()
        assert "missing" not in read_volume(tmp_path, volume=1).notes
        assert "place 4 of 7" in read_volume(tmp_path, volume=2).notes["missing"]


class TestGroups:
    def test_localizers_are_left_out_and_said(self, tmp_path: Path) -> None:
        elements = {"SeriesInstanceUID": "1.2.3"}
        write_series(tmp_path / "a", VALUES, AFFINES["axial"], elements=elements)
        scout = {**elements, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        write_series(tmp_path / "b", VALUES[:1], AFFINES["coronal"], elements=scout)
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.values, VALUES)
        assert volume.notes["localizers"] == "1 left out"

    @pytest.mark.parametrize("other", ["size", "orientation"])
    def test_another_size_or_orientation_in_a_series_is_another_scan(self, tmp_path: Path, other: str) -> None:
        elements = {"SeriesInstanceUID": "1.2.3", "SeriesNumber": 4}
        write_series(tmp_path / "a", VALUES, AFFINES["axial"], elements=elements)
        values = VALUES[:3, :, :4].copy() if other == "size" else VALUES[:3]
        write_series(tmp_path / "b", values, AFFINES["axial" if other == "size" else "coronal"], elements=elements)
        with pytest.raises(UsageError, match=r"it holds 2 series; choose with --series N or :PLACE.*:1 number 4 \(CT"):
            read_scan(tmp_path)
        volume = read_volume(tmp_path, series=":2")
        assert volume.shape == values.shape
        assert volume.notes["grids"] == "its series has 2 sizes or orientations; each is a scan of its own"

    def test_images_without_places_stay_images(self, tmp_path: Path) -> None:
        def strip(made: Dataset, index: int) -> None:
            del made.ImagePositionPatient

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=strip)
        with pytest.raises(UsageError, match="it holds 7 scans; expected one"):
            read_scan(tmp_path)
        assert read_scan(tmp_path, series=":2").notes["no_volume"].startswith("7 files of its series say not where")

    def test_slices_at_one_place_are_images_and_said_to_be(self, tmp_path: Path) -> None:
        def moved(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [0, 0, 0]

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=moved)
        assert read_scan(tmp_path, series=":1").notes["no_volume"].startswith("7 files of its series lie at one place")


class TestRefused:
    def refused(self, folder: Path, **elements: Any) -> str:
        write_series(folder, VALUES, AFFINES["axial"], elements=elements)
        with pytest.raises(UnreadableScan) as caught:
            read_scan(folder)
        message = str(caught.value)
        assert message.startswith(str(folder)) and "\n" not in message
        return message

    @pytest.mark.parametrize("spacing", [[0, 1], [-0.5, 0.5], ["", ""]])
    def test_spacing(self, tmp_path: Path, spacing: list[Any]) -> None:
        assert "Pixel Spacing is missing or no length above 0" in self.refused(tmp_path, PixelSpacing=spacing)

    def test_a_spacing_that_is_no_number(self, tmp_path: Path) -> None:
        def nan(made: Dataset, index: int) -> None:
            made.add_new("PixelSpacing", "FD", [np.nan, 1.0])

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=nan)
        with pytest.raises(UnreadableScan, match="Pixel Spacing is missing"):
            read_scan(tmp_path)

    @pytest.mark.parametrize("orientation", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 0]])
    def test_singular_orientation(self, tmp_path: Path, orientation: list[float]) -> None:
        assert "no pair of perpendicular" in self.refused(tmp_path, ImageOrientationPatient=orientation)

    def test_slices_that_are_not_on_a_line(self, tmp_path: Path) -> None:
        def moved(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [5.0 * (index == 3), 0, index]

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=moved)
        with pytest.raises(UnreadableScan, match="not stacked along one line"):
            read_scan(tmp_path)

    def test_slices_side_by_side(self, tmp_path: Path) -> None:
        def moved(made: Dataset, index: int) -> None:
            made.ImagePositionPatient = [50.0 * (index % 2), 0, index // 2]

        write_series(tmp_path, VALUES[:6], AFFINES["axial"], edit=moved)
        with pytest.raises(UnreadableScan, match="side by side"):
            read_scan(tmp_path)

    @pytest.mark.parametrize("cut", [1, 40])
    def test_a_truncated_slice_is_named(self, tmp_path: Path, cut: int) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        files[4].write_bytes(files[4].read_bytes()[:-cut])
        with pytest.raises(UnreadableScan, match=rf"its slice {files[4].name}.*truncated"):
            read_scan(tmp_path)

    def test_a_slice_whose_pixels_are_of_another_size_than_its_header(self, tmp_path: Path) -> None:
        files = write_series(tmp_path, VALUES, AFFINES["axial"])
        made = pydicom.dcmread(files[0])
        made.PixelData = made.PixelData[:20]
        made.save_as(files[0])
        with pytest.raises(UnreadableScan, match=rf"its slice {files[0].name}"):
            read_scan(tmp_path)

    def test_too_many_voxels(self, tmp_path: Path) -> None:
        write_series(tmp_path, VALUES, AFFINES["axial"])
        with pytest.raises(UnreadableScan, match="7 x 6 x 5 voxels, over the limit of 100"):
            read_scan(tmp_path, max_voxels=100)

    def test_files_of_one_series_and_two_patients(self, tmp_path: Path) -> None:
        def mixed(made: Dataset, index: int) -> None:
            made.PatientID = "Secret" if index < 3 else "Hidden"

        write_series(tmp_path, VALUES, AFFINES["axial"], edit=mixed)
        with pytest.raises(UnreadableScan, match="name different patients") as caught:
            read_scan(tmp_path)
        assert "Secret" not in str(caught.value) and "Hidden" not in str(caught.value)


def test_a_slice_without_a_series_is_an_image(tmp_path: Path) -> None:
    for k in range(2):
        plain_dataset(VALUES[k]).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    with pytest.raises(UsageError, match="it holds 2 scans"):
        read_scan(tmp_path)

"""Files of several frames: enhanced objects by their functional groups, films in grey and in every colour."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)
from study_files import AFFINES, FLIP, VALUES, plain_dataset, read_volume, write_frames, write_series

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.objects import as_scan
from lexiseg.io.read import read_scan
from lexiseg.values.scans import Volume


def transformed(group: Dataset, keyword: str, **elements: Any) -> None:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    setattr(group, keyword, Sequence([item]))


class TestEnhanced:
    @pytest.mark.parametrize("name", AFFINES)
    def test_is_the_volume_that_classic_files_are(self, tmp_path: Path, name: str) -> None:
        write_frames(tmp_path / "all.dcm", VALUES, AFFINES[name], seed=3)
        write_series(tmp_path / "single", VALUES, AFFINES[name], seed=4)
        whole, single = read_volume(tmp_path / "all.dcm"), read_volume(tmp_path / "single")
        np.testing.assert_array_equal(whole.values, single.values)
        np.testing.assert_array_equal(whole.geometry.affine, single.geometry.affine)
        # Each slice is the frame that its header names.
        stored = pydicom.dcmread(tmp_path / "all.dcm").pixel_array
        for index, frame in enumerate(whole.header.frames):
            np.testing.assert_array_equal(whole.values[index], stored[frame.number])

    def test_rescale_and_window_of_each_frame(self, tmp_path: Path) -> None:
        def scaled(group: Dataset, index: int) -> None:
            transformed(group, "PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=index - 1000,
                        RescaleType="HU")  # fmt: skip
            transformed(group, "FrameVOILUTSequence", WindowCenter=40, WindowWidth=400)

        write_frames(tmp_path / "all.dcm", VALUES, AFFINES["axial"], per_frame=scaled)
        volume = read_volume(tmp_path / "all.dcm")
        np.testing.assert_array_equal(volume.values, VALUES * 2 + np.arange(7)[:, None, None] - 1000)
        assert volume.unit == "HU"
        assert volume.window is not None and volume.window.describe() == "LINEAR window, centre 40, width 400"

    def test_volumes_are_told_apart_by_their_temporal_position(self, tmp_path: Path) -> None:
        both = np.concatenate([VALUES, VALUES + 1])
        positions = FLIP @ AFFINES["axial"]

        def timed(group: Dataset, index: int) -> None:
            group.PlanePositionSequence[0].ImagePositionPatient = list((positions @ [0, 0, index % 7, 1])[:3])
            transformed(group, "FrameContentSequence", TemporalPositionIndex=1 + index // 7)

        write_frames(tmp_path / "all.dcm", both, AFFINES["axial"], per_frame=timed)
        with pytest.raises(UnreadableScan, match="it holds 2 volumes"):
            read_scan(tmp_path / "all.dcm")
        np.testing.assert_array_equal(read_volume(tmp_path / "all.dcm", volume=2).values, VALUES + 1)

    def test_compressed_frames(self, tmp_path: Path) -> None:
        write_frames(tmp_path / "plain.dcm", VALUES, AFFINES["axial"], seed=1)
        write_frames(
            tmp_path / "packed.dcm", VALUES, AFFINES["axial"], seed=1,
            edit=lambda made: made.compress(RLELossless, generate_instance_uid=False),
        )  # fmt: skip
        np.testing.assert_array_equal(
            read_volume(tmp_path / "packed.dcm").values, read_volume(tmp_path / "plain.dcm").values
        )

    def test_one_compressed_frame_that_is_cut_off_is_named(self, tmp_path: Path) -> None:
        def cut(made: Dataset) -> None:
            made.compress(JPEGLSLossless, generate_instance_uid=False)
            frames = list(generate_frames(made.PixelData, number_of_frames=len(VALUES)))
            made.PixelData = encapsulate([*frames[:2], frames[2][: len(frames[2]) // 2], *frames[3:]])

        write_frames(tmp_path / "packed.dcm", VALUES, AFFINES["axial"], seed=1, edit=cut)
        with pytest.raises(UnreadableScan, match="its compressed frame 3 is cut off before its end"):
            read_volume(tmp_path / "packed.dcm")

    def test_two_files_of_one_series_must_be_chosen(self, tmp_path: Path) -> None:
        for name in ("a.dcm", "b.dcm"):
            write_frames(tmp_path / name, VALUES, AFFINES["axial"],
                         edit=lambda made: setattr(made, "SeriesInstanceUID", "1.2.3"))  # fmt: skip
        with pytest.raises(UsageError, match="it holds 2 series"):
            read_scan(tmp_path)

    def test_parts_of_one_object_are_one_volume(self, tmp_path: Path) -> None:
        """A concatenation: the same object in two files (PS3.3 C.7.6.16.2.2.4)."""
        positions, uid = FLIP @ AFFINES["axial"], generate_uid()

        def part_of(made: Dataset) -> None:
            made.SeriesInstanceUID, made.ConcatenationUID = "1.2.3", uid

        for name, part in (("a.dcm", slice(0, 4)), ("b.dcm", slice(4, 7))):

            def placed(group: Dataset, index: int, begun: int = part.start) -> None:
                place = (positions @ [0, 0, index + begun, 1])[:3]
                group.PlanePositionSequence[0].ImagePositionPatient = [float(each) for each in place]

            write_frames(tmp_path / name, VALUES[part], AFFINES["axial"], edit=part_of, per_frame=placed)
        np.testing.assert_array_equal(read_volume(tmp_path).values, VALUES)

    def test_a_truncated_file(self, tmp_path: Path) -> None:
        path = tmp_path / "all.dcm"
        write_frames(path, VALUES, AFFINES["axial"])
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(UnreadableScan, match="damaged or truncated"):
            read_scan(path)

    def test_of_a_dataset_in_memory(self, tmp_path: Path) -> None:
        write_frames(tmp_path / "all.dcm", VALUES, AFFINES["oblique"])
        scan = as_scan(pydicom.dcmread(tmp_path / "all.dcm"))
        assert isinstance(scan, Volume) and scan.header is None
        np.testing.assert_array_equal(scan.values, read_volume(tmp_path / "all.dcm").values)


COLOURS = np.random.default_rng(1).integers(0, 256, (5, 16, 24, 3)).astype(np.uint8)
SMOOTH = np.stack([np.add.outer(np.arange(16) * 9, np.arange(24) * 3) + 4 * k for k in range(5)]).astype(np.uint8)


def write_film(path: Path, frames: np.ndarray, **elements: Any) -> None:
    made = plain_dataset(frames, UltrasoundMultiFrameImageStorage)
    made.NumberOfFrames, made.Modality, made.FrameTime = len(frames), "US", "33.3"
    made.SeriesInstanceUID = generate_uid()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.save_as(path, enforce_file_format=True)


class TestFilms:
    def test_a_colour_film_has_time_and_no_distance(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.dcm", COLOURS, PixelSpacing=[0.4, 0.3])
        film = read_volume(tmp_path / "film.dcm")
        np.testing.assert_array_equal(film.values, COLOURS)
        assert film.geometry.time and film.spacing is None
        assert film.geometry.pixel_spacing == (0.4, 0.3)
        assert [frame.number for frame in film.header.frames] == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(np.rint(film.planes()[2].pixels * 255), COLOURS[2])

    def test_ybr(self, tmp_path: Path) -> None:
        ybr = convert_color_space(COLOURS, "RGB", "YBR_FULL")
        write_film(tmp_path / "film.dcm", ybr, PhotometricInterpretation="YBR_FULL")
        values = read_volume(tmp_path / "film.dcm").values.astype(int)
        # Twice rounded: out of RGB and back.
        assert np.abs(values - COLOURS).max() <= 2

    @pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
    def test_jpeg_whatever_the_tag_says(self, tmp_path: Path, photometric: str) -> None:
        """Exporters write RGB beside a JPEG that is YBR."""
        red = np.zeros((2, 16, 16, 3), np.uint8)
        red[..., 0] = 200
        packed = []
        for frame in red:
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=95)
            packed.append(file.getvalue())
        made = plain_dataset(red, UltrasoundMultiFrameImageStorage)
        made.NumberOfFrames, made.Modality = 2, "US"
        made.PhotometricInterpretation = photometric
        made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        made.PixelData = encapsulate(packed)
        made.save_as(tmp_path / "film.dcm", enforce_file_format=True)
        film = read_volume(tmp_path / "film.dcm")
        np.testing.assert_allclose(film.values.reshape(-1, 3).mean(axis=0), [200, 0, 0], atol=3)

    def test_a_palette(self, tmp_path: Path) -> None:
        indices = SMOOTH
        elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
        tables = np.random.default_rng(2).integers(0, 256, (3, 256)).astype("<u2")
        for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            elements[f"{colour}PaletteColorLookupTableData"] = (table * 257).tobytes()
        write_film(tmp_path / "film.dcm", indices, **elements)
        np.testing.assert_array_equal(read_volume(tmp_path / "film.dcm").values, tables.T[indices])

    def test_equal_channels_are_grey(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.dcm", np.repeat(SMOOTH[..., None], 3, axis=3))
        film = read_volume(tmp_path / "film.dcm")
        np.testing.assert_array_equal(film.values, SMOOTH)
        np.testing.assert_array_equal(np.rint(film.planes()[1].pixels * 255), SMOOTH[1])

    def test_grey(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.dcm", SMOOTH)
        np.testing.assert_array_equal(read_volume(tmp_path / "film.dcm").values, SMOOTH)

    def test_frames_at_one_place_are_a_film(self, tmp_path: Path) -> None:
        write_frames(tmp_path / "film.dcm", VALUES, np.diag([-1.0, -1, 0, 1]))
        assert read_volume(tmp_path / "film.dcm").geometry.time

    def test_films_of_a_folder_are_scans_of_their_own(self, tmp_path: Path) -> None:
        for k in range(2):
            write_film(tmp_path / f"{k}.dcm", SMOOTH)
        with pytest.raises(UsageError, match="it holds 2 scans"):
            read_scan(tmp_path)

    @pytest.mark.timeout(60)
    def test_a_number_of_frames_that_is_a_lie(self, tmp_path: Path) -> None:
        write_film(tmp_path / "film.dcm", SMOOTH, NumberOfFrames=2**31 - 1)
        with pytest.raises(UnreadableScan, match="more than it has bytes"):
            read_scan(tmp_path / "film.dcm")

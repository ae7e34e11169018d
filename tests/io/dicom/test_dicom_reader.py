from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
    UltrasoundImageStorage,
)

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import read_scan
from lexiseg.values import scans
from lexiseg.values.window import apply_window

MakeDicom = Callable[..., Path]

STORED = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
LARGE = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80)


def read_image(path: Path) -> scans.Image:
    scan = read_scan(path)
    assert isinstance(scan, scans.Image)
    return scan


def lut(descriptor: list[int], data: np.ndarray) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = descriptor
    item.LUTData = data.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


class TestGrey:
    def test_percentiles_without_a_window(self, make_dicom: MakeDicom) -> None:
        scan = read_scan(make_dicom(STORED))
        low, high = np.percentile(STORED, (0.5, 99.5))
        np.testing.assert_allclose(scan.pixels, np.clip((STORED - low) / (high - low), 0, 1), atol=1e-6)
        assert scan.shape == (20, 30)
        assert scan.id == "scan"

    def test_window_after_rescale_is_exact(self, make_dicom: MakeDicom) -> None:
        path = make_dicom(
            STORED, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 300], WindowWidth=[400, 1500]
        )
        scan = read_scan(path)
        hounsfield = STORED.astype(float) * 2 - 1024
        expected = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)
        np.testing.assert_allclose(scan.pixels, expected, atol=1e-6)
        assert scan.notes["intensity"] == "LINEAR window, centre 40, width 400"

    def test_signed_values(self, make_dicom: MakeDicom) -> None:
        signed = STORED.astype(np.int16) - 300
        scan = read_scan(make_dicom(signed, WindowCenter=0, WindowWidth=101))
        np.testing.assert_allclose(scan.pixels, np.clip((signed + 0.5) / 100 + 0.5, 0, 1), atol=1e-6)

    @pytest.mark.parametrize("window", [{}, {"WindowCenter": 300, "WindowWidth": 400}])
    def test_monochrome1_is_monochrome2_of_inverted_values(
        self, make_dicom: MakeDicom, window: dict[str, float]
    ) -> None:
        two = read_scan(make_dicom(STORED, "two.dcm", **window))
        one = read_scan(make_dicom(STORED, "one.dcm", PhotometricInterpretation="MONOCHROME1", **window))
        np.testing.assert_array_equal(one.pixels, 1 - two.pixels)
        assert one.notes["inverted"] == "MONOCHROME1"
        assert "inverted" not in two.notes

    def test_eight_bits(self, make_dicom: MakeDicom) -> None:
        stored = (STORED % 251).astype(np.uint8)
        scan = read_scan(make_dicom(stored, WindowCenter=128, WindowWidth=256))
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), stored)

    def test_modality_lut(self, make_dicom: MakeDicom) -> None:
        table = (np.arange(600) ** 2 // 10).astype(np.uint16)
        path = make_dicom(STORED, ModalityLUTSequence=lut([600, 0, 16], table), WindowCenter=18000, WindowWidth=36000)
        expected = np.clip((table[STORED] - 17999.5) / 35999 + 0.5, 0, 1)
        np.testing.assert_allclose(read_scan(path).pixels, expected, atol=1e-6)

    def test_voi_lut_goes_before_the_window_and_its_range_is_its_data(self, make_dicom: MakeDicom) -> None:
        table = np.linspace(0, 4095, 600).astype(np.uint16)[::-1]
        scan = read_scan(make_dicom(STORED, VOILUTSequence=lut([600, 0, 16], table), WindowCenter=1, WindowWidth=2))
        np.testing.assert_allclose(scan.pixels, table[STORED] / 4095, atol=1e-6)
        assert scan.notes["intensity"] == "VOI LUT"

    @pytest.mark.parametrize("window", [(40, 0), (1e6, 2), ("", "")])
    def test_a_useless_window_is_not_used(self, make_dicom: MakeDicom, window: tuple[object, object]) -> None:
        plain = read_scan(make_dicom(STORED, "plain.dcm"))
        scan = read_scan(make_dicom(STORED, WindowCenter=window[0], WindowWidth=window[1]))
        np.testing.assert_array_equal(scan.pixels, plain.pixels)

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_not_counted(self, make_dicom: MakeDicom, photometric: str) -> None:
        padded = STORED.astype(np.int16)
        padded[:, :10] = -2000
        path = make_dicom(padded, PixelPaddingValue=-2000, PhotometricInterpretation=photometric)
        scan = read_scan(path)
        low, high = np.percentile(STORED[:, 10:], (0.5, 99.5))
        seen = np.clip((STORED[:, 10:] - low) / (high - low), 0, 1)
        np.testing.assert_array_equal(scan.pixels[:, :10], 0)
        expected = seen if photometric == "MONOCHROME2" else 1 - seen
        np.testing.assert_allclose(scan.pixels[:, 10:], expected, atol=1e-6)


class TestNative:
    """Values in the scan's own units, for windows that are chosen later."""

    HOUNSFIELD = STORED.astype(np.float64) * 2 - 1024

    def test_are_those_after_the_rescale(self, make_dicom: MakeDicom) -> None:
        path = make_dicom(
            STORED, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400, Modality="CT"
        )
        scan = read_image(path)
        np.testing.assert_array_equal(scan.native, self.HOUNSFIELD)
        assert scan.unit == "HU"
        np.testing.assert_array_equal(scan.planes()[0].pixels, scan.pixels)
        for window, centre, width in (("lung", -600, 1500), ("soft-tissue", 40, 400), ("0,100", 0, 100)):
            np.testing.assert_array_equal(
                scan.planes(window=window)[0].pixels, apply_window(self.HOUNSFIELD, centre, width)
            )

    def test_of_another_modality_are_of_no_known_unit(self, make_dicom: MakeDicom) -> None:
        scan = read_image(make_dicom(STORED, Modality="MR"))
        np.testing.assert_array_equal(scan.native, STORED)
        assert scan.unit == ""
        with pytest.raises(UnreadableScan, match="scan: the lung window is of Hounsfield units"):
            scan.planes(window="lung")

    def test_padding_is_none(self, make_dicom: MakeDicom) -> None:
        padded = STORED.astype(np.int16)
        padded[:, :10] = -2000
        rescale = {"RescaleSlope": 1, "RescaleIntercept": 0}
        scan = read_image(make_dicom(padded, PixelPaddingValue=-2000, Modality="CT", **rescale))
        assert scan.native is not None
        assert np.isnan(scan.native[:, :10]).all()
        np.testing.assert_array_equal(scan.native[:, 10:], STORED[:, 10:])
        for window in ("lung", "percentiles", "-1900,1000"):
            assert not scan.planes(window=window)[0].pixels[:, :10].any()
        np.testing.assert_array_equal(scan.planes(window="percentiles")[0].pixels, scan.pixels)

    @pytest.mark.parametrize("window", [{}, {"WindowCenter": 300, "WindowWidth": 400}])
    def test_of_monochrome1_there_are_none(self, make_dicom: MakeDicom, window: dict[str, float]) -> None:
        """Its high values are dark: a window of them would show a negative."""
        scan = read_image(make_dicom(STORED, PhotometricInterpretation="MONOCHROME1", Modality="CR", **window))
        assert scan.native is None
        with pytest.raises(UnreadableScan, match="scan: it has no values but its pixels"):
            scan.planes(window="percentiles")

    def test_of_colour_there_are_none(self, make_dicom: MakeDicom) -> None:
        assert read_image(make_dicom(TestColour.RGB)).native is None


class TestNotes:
    def test_notes_hold_no_patient_data(self, make_dicom: MakeDicom) -> None:
        assert "Doe" not in str(read_scan(make_dicom(STORED)).notes)


class TestColour:
    RGB = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype(np.uint8)

    def test_rgb_is_exact(self, make_dicom: MakeDicom) -> None:
        np.testing.assert_array_equal(np.rint(read_scan(make_dicom(self.RGB)).pixels * 255), self.RGB)

    def test_planes(self, make_dicom: MakeDicom) -> None:
        planes = np.ascontiguousarray(self.RGB.transpose(2, 0, 1)).tobytes()
        scan = read_scan(make_dicom(self.RGB, PlanarConfiguration=1, PixelData=planes))
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), self.RGB)

    def test_equal_channels_become_grey(self, make_dicom: MakeDicom) -> None:
        assert read_scan(make_dicom(np.stack([self.RGB[..., 0]] * 3, axis=2))).pixels.shape == (20, 30)

    def test_ybr(self, make_dicom: MakeDicom) -> None:
        """A pure red of JPEG's YBR_FULL: Y 76, Cb 85, Cr 255."""
        ybr = np.zeros((20, 30, 3), np.uint8)
        ybr[:] = (76, 85, 255)
        ybr[0, 0] = (255, 128, 128)
        scan = read_scan(make_dicom(ybr, PhotometricInterpretation="YBR_FULL"))
        np.testing.assert_allclose(scan.pixels[5, 5], [1, 0, 0], atol=0.01)
        np.testing.assert_allclose(scan.pixels[0, 0], [1, 1, 1], atol=0.01)

    def test_palette(self, make_dicom: MakeDicom) -> None:
        indices = (STORED % 256).astype(np.uint8)
        elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
        for colour, power in (("Red", 1), ("Green", 2), ("Blue", 3)):
            elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            table = (np.arange(256) * 257 // power).astype("<u2")
            elements[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
        seen: list[np.ndarray] = []
        scan = read_scan(make_dicom(indices, edit=lambda ds: seen.append(apply_color_lut(indices, ds)), **elements))
        np.testing.assert_allclose(scan.pixels, seen[0] / 65535, atol=1e-6)
        np.testing.assert_allclose(scan.pixels[..., 0], indices / 255, atol=1e-6)


class TestSpacing:
    @pytest.mark.parametrize(
        ("elements", "spacing", "noted"),
        [
            ({"PixelSpacing": [0.5, 0.25]}, (0.5, 0.25), False),
            ({"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [1, 1]}, (0.5, 0.25), False),
            ({"ImagerPixelSpacing": [0.143, 0.144]}, (0.143, 0.144), True),
            ({"PixelSpacing": [0, 0]}, None, False),
            ({}, None, False),
        ],
    )
    def test_of_radiology(
        self, make_dicom: MakeDicom, elements: dict[str, object], spacing: tuple[float, float], noted: bool
    ) -> None:
        scan = read_scan(make_dicom(STORED, **elements))
        assert scan.spacing == spacing
        assert ("spacing" in scan.notes) == noted

    def test_of_one_ultrasound_region_in_cm(self, make_dicom: MakeDicom) -> None:
        region = Dataset()
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
        path = make_dicom(STORED, SOPClassUID=UltrasoundImageStorage, SequenceOfUltrasoundRegions=Sequence([region]))
        assert read_scan(path).spacing == pytest.approx((0.2, 0.1))


class TestEncodings:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
    def test_lossless_compression_changes_nothing(self, make_dicom: MakeDicom, syntax: str) -> None:
        plain = read_scan(make_dicom(LARGE))
        packed = make_dicom(LARGE, edit=lambda ds: ds.compress(syntax, generate_instance_uid=False))
        np.testing.assert_array_equal(read_scan(packed).pixels, plain.pixels)

    @pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
    def test_lossless_files_of_others(self, name: str) -> None:
        """From pydicom's own test files, as far as they are installed with it."""
        plain, packed = (get_testdata_file(each, download=False) for each in ("MR_small.dcm", name))
        if plain is None or packed is None:
            pytest.skip("this pydicom was installed without its test files")
        np.testing.assert_array_equal(read_scan(packed).pixels, read_scan(plain).pixels)

    def test_jpeg(self, make_dicom: MakeDicom) -> None:
        smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
        packed = io.BytesIO()
        Image.fromarray(smooth).save(packed, "JPEG", quality=95)

        def compress(dataset: Dataset) -> None:
            dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
            dataset.PixelData = encapsulate([packed.getvalue()])

        scan = read_scan(make_dicom(smooth, WindowCenter=128, WindowWidth=256, edit=compress))
        assert np.abs(scan.pixels * 255 - smooth).max() < 4
        decoded = np.asarray(Image.open(packed))
        assert np.abs(scan.pixels * 255 - decoded).max() < 1.5

    def test_a_tiff_header_in_the_preamble(self, make_dicom: MakeDicom) -> None:
        path = make_dicom(STORED)
        plain = read_scan(path)
        path.write_bytes(b"II*\0\x54\0\0\0" + path.read_bytes()[8:])
        np.testing.assert_array_equal(read_scan(path).pixels, plain.pixels)

    def test_deflated(self, make_dicom: MakeDicom) -> None:
        def deflate(dataset: Dataset) -> None:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

        plain = read_scan(make_dicom(STORED))
        np.testing.assert_array_equal(read_scan(make_dicom(STORED, edit=deflate)).pixels, plain.pixels)

    def test_without_preamble(self, make_dicom: MakeDicom, tmp_path: Path) -> None:
        path = make_dicom(STORED, PixelSpacing=[2, 3])
        bare = tmp_path / "bare.dcm"
        bare.write_bytes(path.read_bytes()[132:])
        scan = read_scan(bare)
        assert scan.spacing == (2, 3)
        np.testing.assert_array_equal(scan.pixels, read_scan(path).pixels)

    def test_without_preamble_and_meta(self, make_dicom: MakeDicom, tmp_path: Path) -> None:
        path = make_dicom(STORED)
        content = path.read_bytes()
        start = 132 + 12 + int.from_bytes(content[140:144], "little")
        bare = tmp_path / "bare"
        bare.write_bytes(content[start:])
        np.testing.assert_array_equal(read_scan(bare).pixels, read_scan(path).pixels)


class TestRefused:
    def test_segmentation(self, make_dicom: MakeDicom) -> None:
        with pytest.raises(UnreadableScan, match="a DICOM segmentation"):
            read_scan(make_dicom(STORED, SOPClassUID=SegmentationStorage))

    def test_no_pixels(self, make_dicom: MakeDicom) -> None:
        def strip(dataset: Dataset) -> None:
            del dataset.PixelData, dataset.Rows, dataset.Columns

        with pytest.raises(UnreadableScan, match="holds no image"):
            read_scan(make_dicom(STORED, edit=strip))

    def test_one_value_only(self, make_dicom: MakeDicom) -> None:
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            read_scan(make_dicom(np.full_like(STORED, 7)))

    @pytest.mark.parametrize(("rows", "columns"), [(65535, 65535), (0, 30), (21, 30)])
    def test_a_size_that_is_not_there(self, make_dicom: MakeDicom, rows: int, columns: int) -> None:
        with pytest.raises(UnreadableScan):
            read_scan(make_dicom(STORED, Rows=rows, Columns=columns))

    def test_a_compressed_frame_of_another_size(self, make_dicom: MakeDicom) -> None:
        def lie(dataset: Dataset) -> None:
            dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
            dataset.Rows, dataset.Columns = 10, 10

        with pytest.raises(UnreadableScan, match="its compressed frame is 80 x 64 pixels"):
            read_scan(make_dicom(LARGE, edit=lie))

    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_a_compressed_frame_that_is_cut_off(self, make_dicom: MakeDicom, syntax: str, share: float) -> None:
        def cut(dataset: Dataset) -> None:
            dataset.compress(syntax, generate_instance_uid=False)
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
            dataset.PixelData = encapsulate([frame[: int(share * len(frame))]])

        with pytest.raises(UnreadableScan, match=r"is cut off before its end; copy|are damaged, or of a kind"):
            read_scan(make_dicom(LARGE, edit=cut))

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("kind", ["JPEG", "JPEG-LS", "JPEG2000"])
    def test_a_compressed_bomb(self, make_dicom: MakeDicom, kind: str) -> None:
        """Frame headers alone: a decoder that believes them takes gigabytes and minutes."""
        siz = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1, 7, 1, 1)
        frame, syntax = {
            "JPEG": (b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0", JPEGBaseline8Bit),
            "JPEG-LS": (b"\xff\xd8\xff\xf7\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0", JPEGLSLossless),
            "JPEG2000": (b"\xff\x4f\xff\x51" + siz, JPEG2000Lossless),
        }[kind]

        def explode(dataset: Dataset) -> None:
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.PixelData = encapsulate([frame + bytes(200)])

        with pytest.raises(UnreadableScan, match="its compressed frame is 6"):
            read_scan(make_dicom(STORED, edit=explode))

    def test_a_deflated_bomb(self, make_dicom: MakeDicom) -> None:
        def inflate(dataset: Dataset) -> None:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            dataset.add_new(0x7FE10010, "OW", bytes(40_000_000))

        path = make_dicom(STORED, edit=inflate)
        assert path.stat().st_size < 100_000
        with pytest.raises(UnreadableScan, match="too much for its pixels"):
            read_scan(path, max_pixels=10_000)

    def test_an_unknown_transfer_syntax(self, make_dicom: MakeDicom) -> None:
        def change(dataset: Dataset) -> None:
            dataset.file_meta.TransferSyntaxUID = MPEG2MPML
            dataset.PixelData = encapsulate([bytes(100)])

        with pytest.raises(UnreadableScan, match=r"its pixels \(MPEG2 .*\) cannot be decoded here"):
            read_scan(make_dicom(STORED, edit=change))

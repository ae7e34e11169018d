"""What holds of DICOM headers: optional fields that say nothing, tables, padding, palettes and functional groups."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import read_scan
from lexiseg.values.scans import Image

few = settings(max_examples=40, deadline=None)


def scan_of(content: bytes) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scan.bin")
        path.write_bytes(content)
        scan = read_scan(path)
    assert isinstance(scan, Image)
    return scan


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


STORED = np.random.default_rng(2).integers(0, 1000, (20, 30)).astype(np.uint16)


def dicom(stored: np.ndarray = STORED, **elements: Any) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *stored.shape, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def with_raw(keyword: str, vr: str, value: bytes) -> bytes:
    """A file that has this element first in group 0028, whatever value and VR."""
    group, element = divmod(pydicom.datadict.tag_for_keyword(keyword) or 0, 65536)
    if vr in ("OB", "OW", "UN"):
        raw = struct.pack("<HH2sHI", group, element, vr.encode(), 0, len(value)) + value
    else:
        raw = struct.pack("<HH2sH", group, element, vr.encode(), len(value)) + value
    content = written(dicom())
    at = content.index(b"\xe0\x7f\x10\x00")
    return content[:at] + raw + content[at:]


OPTIONAL = (
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "VOILUTFunction",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "NumberOfFrames",
)


class TestDicomFields:
    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(OPTIONAL),
        st.sampled_from(["DS", "IS", "LO", "US", "SS", "UN", "FD", "OB"]),
        st.sampled_from([b"", b"  ", b"0,5", b"1,5\\2", b"text", b"\xff\xff", b"nan ", b"inf ", b"\\ ", b"1e999 "]),
    )
    def test_an_optional_field_that_says_nothing_is_absent(self, keyword: str, vr: str, value: bytes) -> None:
        """Of any VR, empty, text, or no number: the picture is read as if the field were not there."""
        words = vr in ("US", "SS") or (vr in ("UN", "OB") and keyword.startswith("PixelPadding"))
        if value and words and len(value) % 2 == 0:
            return  # every two bytes are a number
        np.testing.assert_allclose(scan_of(with_raw(keyword, vr, value)).pixels, stretched(STORED), atol=1e-6)

    def test_text_in_an_unknown_vr_is_text(self) -> None:
        scan = scan_of(with_raw("NumberOfFrames", "UN", b"1 "))
        np.testing.assert_allclose(scan.pixels, stretched(STORED), atol=1e-6)
        assert scan_of(with_raw("PixelSpacing", "UN", b"0.5\\0.7 ")).spacing == (0.5, 0.7)

    @pytest.mark.parametrize("keyword", OPTIONAL[:6])
    def test_what_is_left_out_is_said(self, keyword: str) -> None:
        assert keyword in scan_of(with_raw(keyword, "DS", b"0,5 ")).notes["ignored"]

    @few
    @given(st.sampled_from([8, 9, 10, 12, 14, 16]), st.sampled_from(["US", "OW"]), st.booleans(), st.integers(0, 9))
    def test_tables_of_any_depth(self, bits: int, vr: str, modality: bool, seed: int) -> None:
        table = np.random.default_rng(seed).integers(0, 2**bits, 1000).astype(np.uint16)
        item = Dataset()
        item.LUTDescriptor = [1000, 0, bits]
        item.add(DataElement("LUTData", vr, table.tobytes() if vr == "OW" else [int(each) for each in table]))
        dataset = dicom(**{"ModalityLUTSequence" if modality else "VOILUTSequence": [item]})
        scan = scan_of(written(dataset))
        mapped = table[STORED].astype(np.float64)
        low, high = table.min(), table.max()
        wanted = stretched(mapped) if modality else (mapped - low) / (float(high) - float(low))
        np.testing.assert_allclose(scan.pixels, wanted, atol=1e-6)

    @pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
    @pytest.mark.parametrize("descriptor", [None, [5000, 0, 16], [1000]])
    def test_tables_that_hold_nothing(self, keyword: str, descriptor: list[int] | None) -> None:
        item = Dataset()
        item.add(DataElement("LUTDescriptor", "US", descriptor))
        item.add(DataElement("LUTData", "OW", b"\0\1" * 1000))
        scan = scan_of(written(dicom(**{keyword: [item]})))
        np.testing.assert_allclose(scan.pixels, stretched(STORED), atol=1e-6)
        assert keyword in scan.notes["ignored"]

    @few
    @given(st.integers(-32768, -1), st.sampled_from([12, 16]), st.booleans(), st.booleans())
    def test_padding_in_the_other_signedness(self, value: int, bits: int, limit: bool, inverted: bool) -> None:
        photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
        value = max(value, -(2 ** (bits - 1)))
        stored = STORED.astype(np.int16) % 1000
        stored[:5] = value
        elements: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": photometric}
        dataset = dicom(stored, **elements)
        dataset.add(DataElement("PixelPaddingValue", "US", value % 2**bits))
        if limit:
            dataset.add(DataElement("PixelPaddingRangeLimit", "US", value % 2**bits))
        scan = scan_of(written(dataset))
        assert not scan.pixels[:5].any()
        wanted = stretched(stored[5:])
        np.testing.assert_allclose(scan.pixels[5:], 1 - wanted if inverted else wanted, atol=1e-6)
        assert f"stands for {value}" in scan.notes["padding"]

    @few
    @given(st.sampled_from([8, 16]), st.sampled_from([255, 65535]))
    def test_palettes_of_bytes_in_words(self, described: int, top: int) -> None:
        ramp = (np.arange(256) * (top // 255)).astype(np.uint16)
        dataset = dicom((STORED % 256).astype(np.uint8))
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, described])
            setattr(dataset, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
        np.testing.assert_allclose(scan_of(written(dataset)).pixels, STORED % 256 / 255, atol=1e-6)

    def test_needed_fields_that_are_missing_are_named(self) -> None:
        dataset = dicom()
        del dataset.PhotometricInterpretation, dataset.BitsStored
        with pytest.raises(UnreadableScan, match="its header lacks PhotometricInterpretation and BitsStored"):
            scan_of(written(dataset))


def sequence(keyword: str, **elements: Any) -> Dataset:
    """A dataset with one sequence of one item."""
    item, holder = Dataset(), Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    setattr(holder, keyword, [item])
    return holder


class TestFunctionalGroups:
    @pytest.mark.parametrize("window_in", ["shared", "frame"])
    def test_count_like_the_top_level(self, window_in: str) -> None:
        """An enhanced file of one frame is read as the classic one, to the bit."""
        numbers = {"RescaleSlope": 2, "RescaleIntercept": -1024}
        window = {"WindowCenter": 100, "WindowWidth": 900}
        classic = scan_of(written(dicom(Modality="CT", PixelSpacing=[0.5, 0.7], **numbers, **window)))
        shared = sequence("PixelMeasuresSequence", PixelSpacing=[0.5, 0.7])
        frame = sequence("PixelValueTransformationSequence", **numbers, RescaleType="HU")
        holder = shared if window_in == "shared" else frame
        holder.update(sequence("FrameVOILUTSequence", **window))
        enhanced = dicom(Modality="CT", NumberOfFrames=1, SOPClassUID=EnhancedCTImageStorage)
        enhanced.SharedFunctionalGroupsSequence = [shared]
        enhanced.PerFrameFunctionalGroupsSequence = [frame]
        scan = scan_of(written(enhanced))
        np.testing.assert_array_equal(scan.pixels, classic.pixels)
        np.testing.assert_array_equal(scan.native_values, classic.native_values)
        assert (scan.spacing, scan.unit) == (classic.spacing, classic.unit) == ((0.5, 0.7), "HU")

    def test_the_frames_own_is_nearer(self) -> None:
        enhanced = dicom(NumberOfFrames=1)
        enhanced.SharedFunctionalGroupsSequence = [sequence("PixelMeasuresSequence", PixelSpacing=[1, 1])]
        enhanced.PerFrameFunctionalGroupsSequence = [sequence("PixelMeasuresSequence", PixelSpacing=[2, 3])]
        assert scan_of(written(enhanced)).spacing == (2, 3)

    def test_a_ct_without_rescale_has_no_unit(self) -> None:
        assert scan_of(written(dicom(Modality="CT"))).unit == ""

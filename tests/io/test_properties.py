"""What holds of every sound file, whatever its depth, sign, order and colours; outside readers say what it holds."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import read_scan
from lexiseg.values.scans import Image

few = settings(max_examples=40, deadline=None)
# What Pillow writes and other libraries here do not: tifffile needs another package for it.
LZW = "tiff_lzw"


def scan_of(content: bytes) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scan.bin")
        path.write_bytes(content)
        scan = read_scan(path)
    assert isinstance(scan, Image)
    return scan


def picture(seed: int, dtype: str, bits: int, *, colour: bool) -> np.ndarray:
    """Samples that fill `bits` bits of their type, negative ones too where it is signed."""
    kind = np.dtype(dtype)
    shape = (23, 31, 3) if colour else (23, 31)
    values = np.random.default_rng(seed).integers(0, 2**bits, shape)
    return (values - (2 ** (bits - 1) if kind.kind in "if" else 0)).astype(kind)


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


@st.composite
def tiff_options(draw: st.DrawFn) -> dict[str, Any]:
    options: dict[str, Any] = {"byteorder": draw(st.sampled_from("<>")), "bigtiff": draw(st.booleans())}
    options["compression"] = draw(st.sampled_from([None, "zlib"]))
    if draw(st.booleans()):
        options["tile"] = (16, 16)
    else:
        options["rowsperstrip"] = draw(st.sampled_from([1, 7, 23]))
    return options


class TestTiff:
    @few
    @given(
        st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]),
        st.integers(4, 16),
        st.sampled_from(["minisblack", "miniswhite"]),
        tiff_options(),
        st.booleans(),
        st.integers(0, 99),
    )
    def test_grey_as_tifffile_reads_it(
        self, dtype: str, bits: int, photometric: str, options: dict[str, Any], predictor: bool, seed: int
    ) -> None:
        bits = min(bits, 8 * np.dtype(dtype).itemsize, 11 if dtype == "f2" else 16)
        values = picture(seed, dtype, bits, colour=False)
        differences = predictor and options["compression"] and np.dtype(dtype).kind != "f"
        if differences and np.dtype(dtype).itemsize < 8:
            options = {**options, "predictor": True}
        file = io.BytesIO()
        tifffile.imwrite(file, values, photometric=photometric, **options)
        stored = tifffile.imread(io.BytesIO(file.getvalue()))
        np.testing.assert_array_equal(stored, values)
        wanted = stored / 255 if dtype == "u1" else stretched(stored)
        scan = scan_of(file.getvalue())
        inverted = photometric == "miniswhite"
        np.testing.assert_allclose(scan.pixels, 1 - wanted if inverted else wanted, atol=1e-6)
        assert ("inverted" in scan.notes) == inverted or dtype == "u1"

    @few
    @given(
        st.sampled_from([8, 10, 12, 14, 16]),
        tiff_options(),
        st.sampled_from(["contig", "separate"]),
        st.sampled_from([None, "unassalpha"]),
        st.integers(1, 8),
        st.integers(0, 99),
    )
    def test_colour_at_its_full_depth(
        self, bits: int, options: dict[str, Any], planar: str, alpha: str | None, orientation: int, seed: int
    ) -> None:
        values = picture(seed, "u2" if bits > 8 or seed % 2 else "u1", bits, colour=True)
        samples = values
        if alpha is not None:
            opaque = np.full(values.shape[:2], np.iinfo(values.dtype).max, values.dtype)
            samples = np.dstack([values, opaque])
            options = {**options, "extrasamples": [alpha]}
        if planar == "separate":
            samples = np.ascontiguousarray(np.moveaxis(samples, 2, 0))
        file = io.BytesIO()
        turn = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(file, samples, photometric="rgb", planarconfig=planar, extratags=turn, **options)
        upright = values.swapaxes(0, 1) if orientation >= 5 else values
        rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
        upright = upright[:: -1 if rows else 1, :: -1 if columns else 1]
        scan = scan_of(file.getvalue())
        np.testing.assert_allclose(scan.pixels, upright / (2**bits - 1), atol=1e-6)

    @few
    @given(st.sampled_from(["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16"]), st.integers(0, 99))
    def test_lzw_as_pillow_reads_it(self, mode: str, seed: int) -> None:
        grey = picture(seed, "u2" if mode == "I;16" else "u1", 8, colour=False)
        image = Pillow.fromarray(grey)
        image = image if mode == "I;16" else image.convert("RGB").convert(mode)
        plain, packed = io.BytesIO(), io.BytesIO()
        image.save(plain, format="TIFF")
        image.save(packed, format="TIFF", compression=LZW)
        np.testing.assert_array_equal(scan_of(plain.getvalue()).pixels, scan_of(packed.getvalue()).pixels)

    @given(st.sampled_from([8, 16]), st.integers(0, 99))
    @few
    def test_palettes_of_bytes_and_of_words(self, bits: int, seed: int) -> None:
        indices = picture(seed, "u1", 8, colour=False)
        table = np.random.default_rng(seed).integers(0, 256, (3, 256)).astype(np.uint16)
        file = io.BytesIO()
        stored = table if bits == 8 else table * np.uint16(257)
        tifffile.imwrite(file, indices, photometric="palette", colormap=stored)
        np.testing.assert_allclose(scan_of(file.getvalue()).pixels, table.T[indices] / 255, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["c8", "c16"])
    def test_what_is_not_supported_is_called_so(self, dtype: str) -> None:
        file = io.BytesIO()
        tifffile.imwrite(file, picture(0, "f4", 8, colour=False).astype(dtype))
        with pytest.raises(UnreadableScan, match="a TIFF of a kind that is not supported"):
            scan_of(file.getvalue())

    def test_an_unknown_compression_is_no_damage(self) -> None:
        file = io.BytesIO()
        tifffile.imwrite(file, picture(0, "u1", 8, colour=False))
        with tifffile.TiffFile(io.BytesIO(file.getvalue())) as opened:
            tag = opened.pages[0].tags["Compression"]  # type: ignore[union-attr]
        content = bytearray(file.getvalue())
        content[tag.valueoffset : tag.valueoffset + 2] = (34712).to_bytes(2, "little")
        with pytest.raises(UnreadableScan, match=r"not supported .*compression"):
            scan_of(bytes(content))

    def test_a_smaller_copy_is_passed_over(self) -> None:
        values, file = picture(0, "u1", 8, colour=False), io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(values)
            writer.write(values[::4, ::4], subfiletype=1)
        scan = scan_of(file.getvalue())
        np.testing.assert_allclose(scan.pixels, values / 255, atol=1e-6)
        assert scan.notes["previews"] == "1 further picture of the file passed over"

    def test_no_data_is_not_counted_and_black(self) -> None:
        values = np.random.default_rng(1).random((30, 40), np.float32)
        values[:6] = -9999
        for photometric in ("minisblack", "miniswhite"):
            file = io.BytesIO()
            tifffile.imwrite(file, values, photometric=photometric)
            scan = scan_of(file.getvalue())
            assert not scan.pixels[:6].any()
            assert "240 of -9999" in scan.notes["sentinel"]
            assert 0.4 < scan.pixels[6:].mean() < 0.6


def png(samples: np.ndarray, kind: int, *, interlaced: bool = False) -> bytes:
    """A 16-bit PNG of grey with alpha (4), colour (2) or both (6), unfiltered."""
    height, width = samples.shape[:2]
    words = samples.astype(">u2")
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = [words[a::c, b::d] for a, b, c, d in steps] if interlaced else [words]
    rows = b"".join(b"\0" + row.tobytes() for each in passes if each.size for row in each)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


class TestPng:
    @few
    @given(st.sampled_from([8, 10, 12, 14, 16]), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99))
    def test_sixteen_bit_colour_at_its_full_depth(
        self, bits: int, colour: bool, alpha: bool, interlaced: bool, seed: int
    ) -> None:
        values = picture(seed, "u2", bits, colour=colour)
        opacity = np.full(values.shape[:2], 65535, np.uint16)
        opacity[:5] = 0
        if not colour:
            alpha = True
        samples = np.dstack([values, opacity]) if alpha else values
        content = png(samples, {(True, False): 2, (True, True): 6}.get((colour, alpha), 4), interlaced=interlaced)
        wanted = values / (2**bits - 1)
        if alpha:
            wanted[:5] = 0
        np.testing.assert_allclose(scan_of(content).pixels, wanted, atol=1e-6)
        # An outside reader agrees on the upper byte.
        outside = imageio.imread(content, extension=".png")
        np.testing.assert_array_equal(outside[..., 0], (values[..., 0] if colour else values) >> 8)

    @few
    @given(st.sampled_from(["u1", "u2"]), st.integers(4, 16), st.integers(0, 99))
    def test_grey_as_imageio_reads_it(self, dtype: str, bits: int, seed: int) -> None:
        values = picture(seed, dtype, min(bits, 8 * np.dtype(dtype).itemsize), colour=False)
        content = imageio.imwrite("<bytes>", values, extension=".png")
        outside = imageio.imread(content, extension=".png")
        wanted = outside / 255 if dtype == "u1" else stretched(outside)
        np.testing.assert_allclose(scan_of(content).pixels, wanted, atol=1e-6)


class TestJpeg:
    def test_a_phones_further_pictures_are_passed_over(self) -> None:
        image = Pillow.fromarray(picture(0, "u1", 8, colour=True))
        alone, several = io.BytesIO(), io.BytesIO()
        image.save(alone, format="JPEG")
        image.save(several, format="MPO", save_all=True, append_images=[image.resize((8, 6))])
        scan = scan_of(several.getvalue())
        np.testing.assert_array_equal(scan.pixels, scan_of(alone.getvalue()).pixels)
        assert scan.notes["previews"] == "1 further picture of the file passed over"

    @pytest.mark.parametrize(("marker", "bits", "named"), [(0xC3, 8, "lossless, 8"), (0xC1, 12, "extended, 12")])
    def test_other_codings_are_called_so(self, marker: int, bits: int, named: str) -> None:
        file = io.BytesIO()
        Pillow.fromarray(picture(0, "u1", 8, colour=False)).save(file, format="JPEG")
        content = bytearray(file.getvalue())
        at = content.index(b"\xff\xc0")
        content[at + 1], content[at + 4] = marker, bits
        with pytest.raises(UnreadableScan, match=rf"a JPEG of a kind that is not supported \({named} bits\)"):
            scan_of(bytes(content))


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
        if len(value) == 2 and vr in ("US", "SS", "UN", "OB"):
            return  # two bytes are a number
        np.testing.assert_allclose(scan_of(with_raw(keyword, vr, value)).pixels, stretched(STORED), atol=1e-6)

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

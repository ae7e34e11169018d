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
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

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

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import read_scan
from lexiseg.values import scans

GREY = np.arange(12 * 17, dtype=np.uint8).reshape(12, 17)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def png(path: Path, ihdr: tuple[int, int, int, int], rows: bytes) -> Path:
    """A PNG of a kind that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *ihdr, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


class TestEightBits:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp"])
    def test_grey_is_exact(self, tmp_path: Path, suffix: str) -> None:
        scan = read_scan(save(tmp_path / f"a{suffix}", GREY))
        assert scan.pixels.dtype == np.float32
        assert isinstance(scan, scans.Image)
        assert (scan.shape, scan.id, scan.native, scan.spacing) == ((12, 17), "a", None, None)
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), GREY)

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
    def test_colour_is_exact(self, tmp_path: Path, suffix: str) -> None:
        options = {"lossless": True} if suffix == ".webp" else {}
        scan = read_scan(save(tmp_path / f"a{suffix}", COLOUR, **options))
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), COLOUR)

    def test_jpeg_is_close(self, tmp_path: Path) -> None:
        smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
        scan = read_scan(save(tmp_path / "a.jpeg", smooth, quality=95))
        assert np.abs(scan.pixels * 255 - smooth).max() < 4

    def test_upper_case_suffix(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", GREY).rename(tmp_path / "A.PNG")
        assert read_scan(tmp_path / "A.PNG").id == "A"

    def test_equal_channels_become_grey(self, tmp_path: Path) -> None:
        assert read_scan(save(tmp_path / "a.png", np.stack([GREY] * 3, axis=2))).pixels.shape == (12, 17)

    def test_palette(self, tmp_path: Path) -> None:
        image = Image.fromarray(GREY % 4, mode=None)
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
        image.save(tmp_path / "a.png")
        colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
        scan = read_scan(tmp_path / "a.png")
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), colours[GREY % 4])

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
    def test_one_bit(self, tmp_path: Path, suffix: str) -> None:
        scan = read_scan(save(tmp_path / f"a{suffix}", GREY > 100))
        np.testing.assert_array_equal(scan.pixels, GREY > 100)

    def test_cmyk(self, tmp_path: Path) -> None:
        scan = read_scan(save(tmp_path / "a.tif", COLOUR, "CMYK"))
        np.testing.assert_allclose(scan.pixels * 255, COLOUR, atol=1)


class TestAlpha:
    def test_is_laid_on_black(self, tmp_path: Path) -> None:
        rgba = np.dstack([COLOUR, np.full_like(GREY, 128)])
        rgba[:3, :, 3] = 0
        scan = read_scan(save(tmp_path / "a.png", rgba))
        np.testing.assert_array_equal(scan.pixels[:3], 0)
        np.testing.assert_allclose(scan.pixels[3:] * 255, COLOUR[3:] * (128 / 255), rtol=1e-5)
        assert scan.notes["alpha"] == "laid on black"

    def test_grey_with_alpha_is_grey(self, tmp_path: Path) -> None:
        image = Image.fromarray(GREY)
        image.putalpha(Image.fromarray(np.where(GREY > 50, np.uint8(255), np.uint8(0))))
        image.save(tmp_path / "a.png")
        scan = read_scan(tmp_path / "a.png")
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), np.where(GREY > 50, GREY, 0))

    def test_of_zeros_only_is_passed_over(self, tmp_path: Path) -> None:
        scan = read_scan(save(tmp_path / "a.png", np.dstack([COLOUR, np.zeros_like(GREY)])))
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), COLOUR)

    def test_transparent_palette_colour_is_black(self, tmp_path: Path) -> None:
        image = Image.fromarray(GREY % 2)
        image.putpalette([200, 100, 50, 255, 255, 255])
        image.save(tmp_path / "a.png", transparency=0)
        np.testing.assert_array_equal(read_scan(tmp_path / "a.png").pixels, GREY % 2)


class TestDeep:
    def test_sixteen_bit_png_uses_percentiles(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(100, 4000, (64, 64)).astype(np.uint16)
        scan = read_scan(save(tmp_path / "a.png", values))
        low, high = np.percentile(values, (0.5, 99.5))
        np.testing.assert_allclose(scan.pixels, np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
        assert scan.notes["intensity"].startswith("percentiles")

    @pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i2", "<u4", "<i4", "<f4", ">f4"])
    def test_tiff_of_every_type(self, tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
        values = rng.integers(0, 3000, (32, 48)) - (1500 if dtype[1] in "if" else 0)
        if dtype == "<u4":
            values = values * 1_400_000  # beyond int32
        order = dtype[0]
        tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype), byteorder=order, photometric="minisblack")
        low, high = np.percentile(values, (0.5, 99.5))
        expected = np.clip((values - low) / (high - low), 0, 1)
        np.testing.assert_allclose(read_scan(tmp_path / "a.tif").pixels, expected, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_tiff_minimum_is_white(self, tmp_path: Path, rng: np.random.Generator, dtype: type) -> None:
        values = rng.integers(0, 256, (32, 48)).astype(dtype)
        tifffile.imwrite(tmp_path / "black.tif", values, photometric="minisblack")
        tifffile.imwrite(tmp_path / "white.tif", values, photometric="miniswhite")
        black, white = (read_scan(tmp_path / f"{name}.tif").pixels for name in ("black", "white"))
        np.testing.assert_allclose(white, 1 - black, atol=1e-6)

    def test_float_tiff_with_some_nan(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.random((32, 48), np.float32)
        values[:4] = np.nan
        tifffile.imwrite(tmp_path / "a.tif", values)
        scan = read_scan(tmp_path / "a.tif")
        assert np.isfinite(scan.pixels).all()
        assert not scan.pixels[:4].any()
        assert scan.notes["not_finite"] == "192 values are not finite; NaN is shown black"

    def test_sixteen_bit_colour_png(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 65536, (5, 6, 3)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        scan = read_scan(png(tmp_path / "a.png", (6, 5, 16, 2), rows))
        np.testing.assert_array_equal(scan.pixels, (values / 65535).astype(np.float32))
        assert "depth" not in scan.notes


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
    def test_is_applied(self, tmp_path: Path, suffix: str, orientation: int) -> None:
        """Expected: row 0 and column 0 of the stored image lie where the EXIF standard says."""
        upright = {
            1: GREY,
            2: GREY[:, ::-1],
            3: GREY[::-1, ::-1],
            4: GREY[::-1],
            5: GREY.T,
            6: np.rot90(GREY, -1),
            7: GREY[::-1, ::-1].T,
            8: np.rot90(GREY),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if suffix == ".webp" else {}
        scan = read_scan(save(tmp_path / f"a{suffix}", GREY, exif=exif, **options))
        np.testing.assert_array_equal(np.rint(scan.pixels * 255), upright)
        assert ("orientation" in scan.notes) == (orientation > 1)


class TestRefused:
    @pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P", "1"])
    def test_one_colour_only(self, tmp_path: Path, mode: str) -> None:
        Image.new(mode, (9, 8), 1 if mode != "RGB" else (10, 20, 30)).save(tmp_path / "a.png")
        with pytest.raises(UnreadableScan, match="all pixels are equal"):
            read_scan(tmp_path / "a.png")

    def test_a_picture_has_one_volume(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", GREY)
        assert read_scan(path, volume=1).shape == (12, 17)
        with pytest.raises(UnreadableScan, match="there is no volume 2 in it"):
            read_scan(path, volume=2)

    def test_all_nan(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.full((9, 8), np.nan, np.float32))
        with pytest.raises(UnreadableScan, match="no pixel is a finite number"):
            read_scan(tmp_path / "a.tif")

    def test_a_stack_of_pages(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY] * 4), photometric="minisblack")
        with pytest.raises(UnreadableScan, match="4 pages or frames, expected one"):
            read_scan(tmp_path / "a.tif")

    def test_over_the_limit(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", GREY)
        assert read_scan(path, max_pixels=204).shape == (12, 17)
        with pytest.raises(UnreadableScan, match="17 x 12 pixels, over the limit of 203"):
            read_scan(path, max_pixels=203)

    @pytest.mark.parametrize("side", [15_000, 100_000, 2**31 - 1])
    def test_a_bomb_is_not_inflated(self, tmp_path: Path, side: int) -> None:
        with pytest.raises(UnreadableScan, match=r"limit of \d+"):
            read_scan(png(tmp_path / "a.png", (side, side, 8, 0), bytes(1000)))

    @pytest.mark.parametrize("size", [(0, 5), (5, 0)])
    def test_zero_size(self, tmp_path: Path, size: tuple[int, int]) -> None:
        with pytest.raises(UnreadableScan):
            read_scan(png(tmp_path / "a.png", (*size, 8, 0), bytes(10)))

"""The same mask in every encoding reads the same; what is no mask of one thing is refused with its values."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from mask_files import EXACT, SOFT, dicom, grey, nifti, palette

from lexiseg.errors import UnreadableScan
from lexiseg.io.mask_levels import Kind, look_at
from lexiseg.io.mask_pictures import exif_orientation, turned_by_exif
from lexiseg.io.masks import read_mask, read_stored

MASK = np.random.default_rng(5).random((12, 17)) > 0.5
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20))


@st.composite
def shapes(draw: st.DrawFn) -> np.ndarray:
    """A few ellipses, each large enough to have an inside, away from the border."""
    rows, columns = np.mgrid[:64, :72]
    mask = np.zeros((64, 72), bool)
    for _ in range(draw(st.integers(1, 3))):
        y, x = draw(st.integers(18, 45)), draw(st.integers(18, 53))
        height, width = draw(st.integers(7, 15)), draw(st.integers(7, 15))
        mask |= ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
    return mask


def no_plain_alpha(name: str, mask: np.ndarray) -> bool:
    """Whether alpha is the same everywhere, so that nobody can tell it from an opaque picture."""
    return ("alpha" in name or "transparent" in name) and mask.all()


class TestExact:
    @pytest.mark.parametrize("name", EXACT)
    @RELAXED
    @given(mask=masks)
    def test_every_pixel(self, tmp_path: Path, name: str, mask: np.ndarray) -> None:
        if no_plain_alpha(name, mask):
            return
        np.testing.assert_array_equal(read_mask(EXACT[name](mask, tmp_path / "m")), mask)

    @RELAXED
    @given(mask=masks, value=st.sampled_from([1, 2, 100, 255]))
    def test_nifti(self, tmp_path: Path, mask: np.ndarray, value: int) -> None:
        for dtype in (np.uint8, np.float32):
            np.testing.assert_array_equal(read_mask(nifti(mask, tmp_path / "m", value, dtype))[0], mask)

    @pytest.mark.parametrize(
        ("name", "note"),
        [
            ("palette with a white background", "indices"),
            ("alpha of white", "alpha is the mask"),
            ("tiff, 16 bits, white is zero", "inverted"),
            ("dicom, white is zero", "inverted"),
            ("red", "brightest channel"),
        ],
    )
    def test_what_was_decided_is_noted(self, tmp_path: Path, name: str, note: str) -> None:
        assert note in "; ".join(read_stored(EXACT[name](MASK, tmp_path / "m")).decided().notes)

    def test_nothing_is_noted_where_nothing_was_decided(self, tmp_path: Path) -> None:
        for name in ("0 and 1", "0 and 255", "one bit", "16 bits", "dicom", "tiff"):
            assert read_stored(EXACT[name](MASK, tmp_path / "m")).decided().notes == ()

    def test_a_field_of_view_in_alpha_is_not_the_mask(self, tmp_path: Path) -> None:
        values = np.zeros((12, 17, 4), np.uint8)
        values[MASK, :3] = 255
        values[2:10, 2:15, 3] = 255
        Image.fromarray(values).save(tmp_path / "m.png")
        seen = np.zeros_like(MASK)
        seen[2:10, 2:15] = True
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK & seen)

    def test_an_alpha_of_zeros_that_an_export_left(self, tmp_path: Path) -> None:
        values = np.zeros((12, 17, 4), np.uint8)
        values[MASK, :3] = 255
        Image.fromarray(values).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK)

    def test_everything_transparent_is_empty(self, tmp_path: Path) -> None:
        values = np.zeros((12, 17, 4), np.uint8)
        values[..., :3] = 255
        Image.fromarray(values).save(tmp_path / "m.png")
        assert not read_mask(tmp_path / "m.png").any()


class TestSoft:
    @pytest.mark.parametrize("name", SOFT)
    @settings(RELAXED, max_examples=30)
    @given(mask=shapes())
    def test_differs_at_edges_alone_and_is_said(self, tmp_path: Path, name: str, mask: np.ndarray) -> None:
        found = read_stored(SOFT[name](mask, tmp_path / "m")).decided()
        # JPEG's ringing reaches as far as its blocks of 8 pixels.
        reach = 2 if "antialiased" in name else 8
        block = np.ones((2 * reach + 1, 2 * reach + 1))
        edge = ndimage.binary_dilation(mask, block) & ~ndimage.binary_erosion(mask, block)
        np.testing.assert_array_equal(found.mask[~edge], mask[~edge])
        # A cut at one half is off by a pixel at most on either side of the outline, on average.
        cross = ndimage.generate_binary_structure(2, 1)
        band = ndimage.binary_dilation(mask, cross) & ~ndimage.binary_erosion(mask, cross)
        assert np.sum(found.mask != mask) < np.sum(band)
        # A JPEG of 0 and 1 may well come out as 0 and 1.
        assert "soft edges cut at" in "; ".join(found.notes) or name == "jpeg, 0 and 1"

    @settings(RELAXED, max_examples=30)
    @given(mask=shapes(), sigma=st.floats(0.8, 3), scale=st.sampled_from([1.0, 1000.0]))
    def test_blurred_volumes(self, tmp_path: Path, mask: np.ndarray, sigma: float, scale: float) -> None:
        blurred = ndimage.gaussian_filter(mask.astype(np.float32), sigma) * np.float32(scale)
        levels = look_at(blurred)
        if levels.kind is Kind.several and ndimage.label(ndimage.binary_erosion(mask, iterations=4))[1] > 1:
            return  # Shapes that blur into each other may look like labels: they are refused, never cut.
        assert levels.kind is Kind.soft
        np.testing.assert_array_equal(blurred >= levels.cut, blurred >= blurred.max() / 2)

    @pytest.mark.parametrize("name", ["jpeg", "jpeg, 0 and 1", "lossy webp"])
    @pytest.mark.parametrize("full", [False, True])
    def test_empty_and_full(self, tmp_path: Path, name: str, full: bool) -> None:
        mask = np.full((40, 40), full)
        np.testing.assert_array_equal(read_mask(SOFT[name](mask, tmp_path / "m")), mask)


def labels_in(mask: np.ndarray, low: float, high: float) -> np.ndarray:
    """The left half of a shape has one value, the right half another."""
    values = np.where(np.arange(mask.shape[1]) < 36, low, high) * mask
    return np.asarray(values)


class TestSeveral:
    @pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 1), (128, 255), (100, 200), (1, 255), (3, 7)])
    @settings(RELAXED, max_examples=20)
    @given(mask=shapes())
    def test_labels_are_never_one_mask(self, tmp_path: Path, low: int, high: int, mask: np.ndarray) -> None:
        values = labels_in(mask, low, high).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / "m.png")
        if len(np.unique(values)) < 3:
            return
        with pytest.raises(UnreadableScan) as raised:
            read_mask(tmp_path / "m.png")
        message = str(raised.value)
        assert f"it holds 3 values, 0, {min(low, high)} and {max(low, high)}" in message
        assert f"--label {max(low, high)}" in message
        assert "\n" not in message
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", label=low), values == low)

    def test_many_labels(self, tmp_path: Path) -> None:
        values = np.kron(np.arange(104).reshape(8, 13), np.ones((6, 6))).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match="it holds 104 values, 0 to 103"):
            read_mask(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", label=52), values == 52)

    @pytest.mark.parametrize(("low", "high"), [(1, 2), (128, 255), (85, 170)])
    def test_labels_as_jpeg_cannot_be_chosen(self, tmp_path: Path, low: int, high: int) -> None:
        rows, columns = np.mgrid[:64, :72]
        mask = (rows - 32) ** 2 + (columns - 36) ** 2 < 600
        values = labels_in(mask, low, high)
        path = grey(1, suffix=".jpg", quality=90)(values, tmp_path / "m")
        for label in (None, low):
            with pytest.raises(UnreadableScan, match="lossy compression blurs labels"):
                read_mask(path, label=label)

    def test_colours(self, tmp_path: Path) -> None:
        values = np.zeros((20, 20, 3), np.uint8)
        values[2:8, 2:8], values[10:18, 10:18] = (255, 0, 0), (0, 255, 0)
        Image.fromarray(values).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match="3 colours, #000000, #00ff00 and #ff0000"):
            read_mask(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", label=0xFF0000), values[..., 0] > 0)

    def test_two_colours_of_which_none_is_black(self, tmp_path: Path) -> None:
        values = np.full((20, 20, 3), 255, np.uint8)
        values[2:8, 2:8] = (255, 0, 0)
        Image.fromarray(values).save(tmp_path / "m.png")
        with pytest.raises(UnreadableScan, match="2 colours, #ff0000 and #ffffff"):
            read_mask(tmp_path / "m.png")

    def test_a_palette_of_three(self, tmp_path: Path) -> None:
        values = np.arange(60).reshape(6, 10) % 3
        path = palette(0, 0, 0, 255, 0, 0, 255, 0, 0)(values, tmp_path / "m")
        with pytest.raises(UnreadableScan, match="3 values, 0, 1 and 2"):
            read_mask(path)
        np.testing.assert_array_equal(read_mask(path, label=2), values == 2)

    def test_dicom(self, tmp_path: Path) -> None:
        values = np.arange(60).reshape(6, 10) % 3
        with pytest.raises(UnreadableScan, match="3 values, 0, 1 and 2"):
            read_mask(dicom(1)(values, tmp_path / "m"))

    def test_a_scan_is_no_mask(self, tmp_path: Path) -> None:
        rows, columns = np.mgrid[:64, :64]
        picture = 60 + 40 * np.sin(rows / 9) + 60 * np.cos(columns / 7)
        for suffix in (".png", ".jpg"):
            path = grey(1, suffix=suffix)(np.clip(picture, 0, 255).astype(np.uint8), tmp_path / "m")
            with pytest.raises(UnreadableScan, match=r"expected (a mask of )?0 and one other"):
                read_mask(path)

    def test_a_colour_that_8_bits_do_not_hold(self, tmp_path: Path) -> None:
        import struct
        import zlib

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        pixels = np.repeat(MASK.astype(">u2")[..., None], 3, axis=2)
        lines = b"".join(b"\0" + row.tobytes() for row in pixels)
        header = struct.pack(">IIBBBBB", MASK.shape[1], MASK.shape[0], 16, 2, 0, 0, 0)
        (tmp_path / "m.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
        )
        with pytest.raises(UnreadableScan, match="16-bit colour"):
            read_mask(tmp_path / "m.png")


class TestChosen:
    """A choice among labels does not turn plain masks into empty ones, nor label maps into masks."""

    def test_255_is_a_mask_whatever_its_label(self, tmp_path: Path) -> None:
        for name in ("0 and 255", "one bit", "16 bits", "jpeg"):
            path = {**EXACT, **SOFT}[name](np.kron(MASK, np.ones((8, 8), bool)), tmp_path / "m")
            assert read_mask(path, label=2).any()

    def test_a_label_that_is_not_there(self, tmp_path: Path) -> None:
        found = read_stored(EXACT["0 and 1"](MASK, tmp_path / "m")).decided((2,))
        assert not found.mask.any()
        assert "label 2 is not among its values 0 and 1" in found.notes[0]


class TestExif:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_is_turned_as_pillow_turns(self, tmp_path: Path, orientation: int) -> None:
        image = Image.fromarray(MASK.astype(np.uint8) * 255)
        exif = Image.Exif()
        exif[274] = orientation
        image.save(tmp_path / "m.tif" if orientation == 1 else tmp_path / "m.png", exif=exif)
        path = tmp_path / ("m.tif" if orientation == 1 else "m.png")
        assert exif_orientation(path) == orientation
        upright = np.asarray(ImageOps.exif_transpose(Image.open(path))) > 0
        np.testing.assert_array_equal(turned_by_exif(MASK, orientation), upright)
        np.testing.assert_array_equal(read_mask(path), upright)

    def test_of_no_image_is_1(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"text")
        assert [exif_orientation(tmp_path / name) for name in ("x", "gone.jpg")] == [1, 1]

"""PNG, JPEG, TIFF, BMP and WebP through Pillow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.intensities import deep_colour, grey_if_equal, lay_on_black, refuse_flat, stretch
from lexiseg.io.names import HEAD_BYTES, image_format, is_dicom, jpeg_frame
from lexiseg.io.read import CappedFile, ReadOptions, chosen_volume
from lexiseg.io.tiff import PASSED_OVER, page_size, read_samples, several_frames
from lexiseg.values import scans
from lexiseg.values.arrays import FloatArray

_ORIENTATION = 0x0112
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _COLOUR_MAP, _SUBFILE, _PLANAR = 262, 258, 339, 320, 254, 284
_SIGNED, _SEPARATE = 2, 2
# Codings of JPEG that Pillow decodes: baseline, extended and progressive Huffman, and the two arithmetic ones.
_JPEG_CODINGS = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_JPEG_HEADERS = 2**22
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")

# Pillow keeps the upper byte of a 16-bit sample. Read once more with the bytes' order turned, it keeps the lower one.
_OTHER_BYTE = {
    f"{kind};16{order}": f"{kind};16{other}"
    for kind in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if sys.byteorder == "little" else "L"))
}
_NATIVE_ORDER = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}


class ImageReader:
    """Reads ordinary image files into grey (H, W) or RGB (H, W, 3).

    What becomes of the pixels:

    - 8 bits and fewer: divided by 255, so that equal files give equal scans.
    - Grey of 16 bits and more, integer or float, and signed 8 bits: the 0.5 and 99.5 percentiles become 0 and 1,
      sentinels left out (`without_sentinels`). The type's range would not do, since 12 bits in a 16-bit PNG are
      common. TIFF's "minimum is white" is inverted.
    - Colour of 16 bits, and grey of 16 bits with alpha: divided by the largest of the bits that are in use, which a
      note says (`stored_top`).
    - Palettes are resolved, also those of TIFF that hold bytes where 16 bits belong. Transparency is laid on black;
      an alpha channel of zeros only is passed over, as some exports leave one. Three equal channels become one.
    - An EXIF (or TIFF) orientation is applied: the scan, and so its mask, has the size and the direction in
      which viewers show the file, which is not always how it is stored.
    - Previews and further pictures of a phone's JPEG, and smaller copies in a TIFF, are passed over with a note.

    Resolution in dots per inch is not read: it speaks of paper, so `spacing` is None.
    """

    name = "image"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for the five formats' signatures, whatever the name; a TIFF header may open DICOM (PS3.10, 7.1)."""
        return image_format(head) is not None and not is_dicom(head)

    def read(self, path: Path, options: ReadOptions) -> scans.Image:
        """See `Reader.read`."""
        chosen_volume(1, options.volume)
        with path.open("rb") as handle:
            kind = image_format(handle.read(HEAD_BYTES)) or ""
        try:
            with open_image(path, options.max_pixels) as (image, head):
                pixels, notes = _of_file(image, head, path, options.max_pixels)
        # Pillow looks a compression up in a table, and says no more of a layout that it does not know.
        except (UnidentifiedImageError, KeyError):
            if kind != "TIFF":
                raise
            pixels, notes = _of_tiff(path, options.max_pixels)
        except OSError as error:
            # Pillow's own words for what it does not do, and for nothing else.
            if error.errno or "nsupported" not in str(error):
                raise
            raise UnreadableScan(f"it is a {kind} of a kind that is not supported; save it as PNG") from error
        refuse_flat(pixels)
        return scans.Image(pixels=pixels, id=options.id, source=path, notes={"format": kind, **notes})

    def describe(self, path: Path, options: ReadOptions) -> Description:
        """See `Reader.describe`."""
        try:
            with open_image(path, options.max_pixels) as (image, _):
                width, height = image.size
                # Asking a PNG for its EXIF decodes it.
                if image.format != "PNG" and image.getexif().get(_ORIENTATION, 1) in range(5, 9):
                    width, height = height, width
        except (UnidentifiedImageError, KeyError):
            height, width = page_size(path)
        return Description(kind="image", shape=(1, height, width))


@contextmanager
def open_image(path: Path, max_pixels: int) -> Iterator[tuple[Image.Image, bytes]]:
    """Open an image of one frame, not yet decoded, with the file's first bytes.

    Raises:
        UnreadableScan: no pixels, more than `max_pixels`, several frames, or a kind of JPEG that is not supported;
            the reason alone.
    """
    with CappedFile(path) as handle:
        head = handle.read(HEAD_BYTES)
        kind = image_format(head) or ""
        handle.seek(0)
        if kind == "JPEG":
            _refuse_coding(handle.read(_JPEG_HEADERS))
            handle.seek(0)
        try:
            with Image.open(handle, formats=[kind]) as image:
                _refuse_unfit(image, max_pixels)
                _mend_order(image)
                yield image, head
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableScan(
                f"more pixels than Pillow's own limit of {2 * (Image.MAX_IMAGE_PIXELS or 0)}; resize it"
            ) from error


def _refuse_coding(head: bytes) -> None:
    try:
        frame = jpeg_frame(head)
    except ValueError:
        # No frame header among so many bytes: Pillow says what is wrong.
        return
    if frame.marker not in _JPEG_CODINGS or frame.bits != 8:
        raise UnreadableScan(
            f"it is a JPEG of a kind that is not supported ({frame.coding}, {frame.bits} bits); save it as PNG"
        )


def _refuse_unfit(image: Image.Image, max_pixels: int) -> None:
    # Of a phone's JPEG, the first picture is the one that viewers show.
    if image.format not in ("JPEG", "MPO"):
        _choose_page(image)
    refuse_too_large(image.size, max_pixels)


def refuse_too_large(size: tuple[int, int], max_pixels: int) -> None:
    """Pass sizes (width, height) of at least one pixel and at most `max_pixels`."""
    width, height = size
    if width < 1 or height < 1:
        raise UnreadableScan(f"its size is {width} x {height} pixels; expected at least 1 x 1")
    if width * height > max_pixels:
        raise UnreadableScan(
            f"its size is {width} x {height} pixels, over the limit of {max_pixels}; resize it, or in Python "
            "read_scan(..., max_pixels=N)"
        )


def _mend_order(image: Any) -> None:
    """libtiff gives this machine's byte order; Pillow takes signed and float samples for the file's still."""
    if sys.byteorder == "little":
        image.tile = [
            tile._replace(args=(_NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
            else tile
            for tile in getattr(image, "tile", [])
        ]


def _choose_page(image: Image.Image) -> None:
    """Go to the one page that is no smaller copy of another."""
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1:
        return
    whole = []
    for number in range(frames if image.format == "TIFF" else 0):
        image.seek(number)
        tags: Any = getattr(image, "tag_v2", {})
        if not int(tags.get(_SUBFILE, 0)) & PASSED_OVER:
            whole.append(number)
    if len(whole) != 1:
        raise UnreadableScan(several_frames(len(whole) or frames))
    image.seek(whole[0])


def pixels_of(image: Image.Image) -> tuple[FloatArray, dict[str, str]]:
    """An image of Pillow as pixels, with notes on what was done; see `ImageReader`.

    Pillow has narrowed 16-bit colour to 8 bits already.
    """
    return _decode(image, b"")


def _of_file(image: Image.Image, head: bytes, path: Path, max_pixels: int) -> tuple[FloatArray, dict[str, str]]:
    notes: dict[str, str] = {}
    further = int(getattr(image, "n_frames", 1)) - 1
    if further:
        notes["previews"] = _passed_over(further)
    if _channel_bits(head, getattr(image, "tag_v2", {})) <= 8 or image.mode.startswith(("I", "F")):
        pixels, decided = _decode(image, head)
        return pixels, {**notes, **decided}
    # Pillow turns a TIFF when it decodes it, a PNG not; asking a PNG for its EXIF decodes it.
    turned = image.getexif().get(_ORIENTATION, 1) if image.format == "TIFF" else 1
    samples = _wide_samples(image, path)
    if samples is None and image.format == "TIFF":
        return _of_tiff(path, max_pixels)
    if samples is None:
        raise UnreadableScan("its 16-bit colour is of a kind that is not supported; save it with 8 bits a channel")
    if turned in range(2, 9):
        notes["orientation"] = f"EXIF orientation {turned} applied"
    orientation = 1 if image.format == "TIFF" else image.getexif().get(_ORIENTATION, 1)
    return _deep(*samples, orientation, notes), notes


def _of_tiff(path: Path, max_pixels: int) -> tuple[FloatArray, dict[str, str]]:
    """A TIFF that Pillow does not read, or would narrow."""
    samples = read_samples(path, max_pixels)
    notes = {"previews": _passed_over(samples.previews)} if samples.previews else {}
    values, alpha, inverted = samples.values, samples.alpha, "TIFF minimum is white" if samples.white_first else ""
    eight = values.dtype == np.uint8
    if eight or (values.dtype == np.uint16 and not inverted and (values.ndim == 3 or alpha is not None)):
        pixels = _deep(values, alpha, samples.orientation, notes, 255 if eight else None)
        if inverted:
            notes["inverted"] = inverted
            pixels = 1 - pixels
        return pixels, notes
    if alpha is not None:
        notes["alpha"] = "not applied"
    pixels, _ = stretch(_upright(values, samples.orientation, notes), notes, inverted=inverted)
    return (grey_if_equal(pixels) if pixels.ndim == 3 else pixels), notes


def _deep(
    colour: NDArray[Any],
    alpha: NDArray[Any] | None,
    orientation: int,
    notes: dict[str, str],
    declared: int | None = None,
) -> FloatArray:
    if alpha is not None:
        alpha = _upright(alpha, orientation, {})
    return deep_colour(_upright(colour, orientation, notes), notes, alpha=alpha, declared=declared)


def _wide_samples(image: Any, path: Path) -> tuple[NDArray[Any], NDArray[Any] | None] | None:
    """All 16 bits of colour (H, W, 3), or of grey (H, W), and of alpha; None of a layout that is not read so."""
    tiles = image.tile
    modes = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles}
    if len(modes) != 1 or getattr(image, "tag_v2", {}).get(_PLANAR) == _SEPARATE:
        return None
    (mode,) = modes
    if mode == "LA;16B":
        # Four bytes a pixel: two of grey and two of alpha.
        image.tile = [tile._replace(args="RGBA") for tile in tiles]
        words = np.asarray(image).astype(np.uint16)
        return words[..., 0] << 8 | words[..., 1], words[..., 2] << 8 | words[..., 3]
    if mode not in _OTHER_BYTE:
        return None
    marked = image.info.get("transparency")
    upper = np.asarray(image).astype(np.uint16)
    with CappedFile(path) as handle:
        again: Any = Image.open(handle, formats=[image.format])
        again.seek(image.tell())
        other = _OTHER_BYTE[mode]
        again.tile = [
            tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])) for tile in again.tile
        ]
        samples = upper << 8 | np.asarray(again)
    if samples.shape[2] == 4:
        return samples[..., :3], samples[..., 3]
    if isinstance(marked, tuple):
        return samples, np.where((samples == np.array(marked)).all(axis=2), np.uint16(0), np.uint16(65535))
    return samples, None


def _passed_over(count: int) -> str:
    return f"{count} further picture{'s' if count > 1 else ''} of the file passed over"


def _upright(array: NDArray[Any], orientation: int, notes: dict[str, str]) -> NDArray[Any]:
    """An array (H, W, ...) turned as EXIF's orientation says."""
    if orientation not in range(2, 9):
        return array
    notes["orientation"] = f"EXIF orientation {orientation} applied"
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    # After the axes are exchanged: which of them run backwards.
    rows = orientation in (3, 4, 7, 8)
    columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if rows else 1, :: -1 if columns else 1])


def _decode(image: Image.Image, head: bytes) -> tuple[FloatArray, dict[str, str]]:
    notes: dict[str, str] = {}
    tags: Any = getattr(image, "tag_v2", {})
    white_first = tags.get(_PHOTOMETRIC) == 0
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    unsigned32 = tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
    narrowed = _channel_bits(head, tags) > 8 and image.mode in ("RGB", "RGBA")

    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    upright = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes["orientation"] = f"EXIF orientation {orientation} applied"

    deep = upright.mode in ("I", "F") or upright.mode.startswith("I;16")
    if deep or (signed and upright.mode in ("L", "RGB")):
        values: NDArray[Any] = np.asarray(upright)
        if upright.mode == "I" and unsigned32:
            values = values.view(np.uint32)
        if not deep:
            # Pillow has inverted "minimum is white" of 8 bits already: undone by the bits' complement.
            values = (~values if white_first else values).view(np.int8)
        pixels, _ = stretch(values, notes, inverted="TIFF minimum is white" if white_first else "")
        return (grey_if_equal(pixels) if pixels.ndim == 3 else pixels), notes
    if narrowed:
        notes["depth"] = "16-bit colour read at 8 bits a channel"
    if upright.mode == "P" and 0 < max(tags.get(_COLOUR_MAP, (0,))) < 256:
        notes["palette"] = "8 bits in words of 16"
        colours = np.array(tags[_COLOUR_MAP], np.float32).reshape(3, -1).T / np.float32(255)
        return grey_if_equal(colours[np.asarray(upright)]), notes
    return eight_bits(upright, notes), notes


def _channel_bits(head: bytes, tags: Any) -> int:
    """Bits of a sample in the file, which Pillow does not always tell; 8 where it is neither PNG nor TIFF."""
    if image_format(head) == "PNG":
        return head[24] if len(head) > 24 else 8  # the ninth byte of the IHDR chunk's data (PNG, 11.2.1)
    return int(max(tags.get(_BITS, (8,))))


def eight_bits(image: Image.Image, notes: dict[str, str]) -> FloatArray:
    """float32 (H, W) or (H, W, 3) of any mode of 8 bits a channel; adds to `notes`."""
    if image.mode not in _MODES:
        raise UnreadableScan(f"its colours are {image.mode}, which is not supported; save it as RGB")
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    if "transparency" in image.info or "a" in image.mode.lower().replace("lab", ""):
        rgba = np.asarray(image.convert("RGBA"))
        colour = rgba[..., :3].astype(np.float32) / np.float32(255)
        lay_on_black(colour, rgba[..., 3].astype(np.float32) / np.float32(255), notes)
        return grey_if_equal(colour)
    return grey_if_equal(np.asarray(image.convert("RGB"), np.float32) / np.float32(255))

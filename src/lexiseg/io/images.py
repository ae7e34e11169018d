"""PNG, JPEG, TIFF, BMP and WebP through Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lexiseg.errors import UnreadableScan
from lexiseg.io.names import HEAD_BYTES, image_format, is_dicom
from lexiseg.io.read import ReadOptions, grey_if_equal, refuse_flat
from lexiseg.values import scans
from lexiseg.values.arrays import FloatArray
from lexiseg.values.window import robust_range, to_unit

_ORIENTATION = 0x0112
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339


class ImageReader:
    """Reads ordinary image files into grey (H, W) or RGB (H, W, 3).

    What becomes of the pixels:

    - 8 bits and fewer: divided by 255, so that equal files give equal scans.
    - 16 and 32 bits, integer or float: the 0.5 and 99.5 percentiles become 0 and 1. The type's range would
      not do, since 12 bits in a 16-bit PNG are common. TIFF's "minimum is white" is inverted.
    - 16-bit colour is read at 8 bits for each channel (Pillow's limit), which a note says.
    - Palettes are resolved; transparency is laid on black; an alpha channel of zeros only is passed over,
      as some exports leave one. Three equal channels become one.
    - An EXIF (or TIFF) orientation is applied: the scan, and so its mask, has the size and the direction in
      which viewers show the file, which is not always how it is stored.

    Resolution in dots per inch is not read: it speaks of paper, so `spacing` is None.
    """

    name = "image"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for the five formats' signatures, whatever the name; a TIFF header may open DICOM (PS3.10, 7.1)."""
        return image_format(head) is not None and not is_dicom(head)

    def read(self, path: Path, options: ReadOptions) -> scans.Image:
        """See `Reader.read`."""
        with open_image(path, options.max_pixels) as (image, head):
            pixels, notes = _decode(image, head)
        refuse_flat(pixels)
        return scans.Image(
            pixels=pixels, id=options.id, source=path, notes={"format": image_format(head) or "", **notes}
        )


@contextmanager
def open_image(path: Path, max_pixels: int) -> Iterator[tuple[Image.Image, bytes]]:
    """Open an image of one frame, not yet decoded, with the file's first bytes.

    Raises:
        UnreadableScan: no pixels, more than `max_pixels`, or several frames; the reason alone.
    """
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(0)
        try:
            with Image.open(handle, formats=[image_format(head) or ""]) as image:
                _refuse_unfit(image, max_pixels)
                yield image, head
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableScan(
                f"more pixels than Pillow's own limit of {2 * (Image.MAX_IMAGE_PIXELS or 0)}; resize it"
            ) from error


def _refuse_unfit(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableScan(f"its size is {width} x {height} pixels; expected at least 1 x 1")
    if width * height > max_pixels:
        raise UnreadableScan(
            f"its size is {width} x {height} pixels, over the limit of {max_pixels}; resize it or raise max_pixels"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnreadableScan(
            f"it holds {frames} pages or frames, expected one; save them as single images or as a NIfTI volume"
        )


def pixels_of(image: Image.Image) -> tuple[FloatArray, dict[str, str]]:
    """An image of Pillow as pixels, with notes on what was done; see `ImageReader`."""
    return _decode(image, b"")


def _decode(image: Image.Image, head: bytes) -> tuple[FloatArray, dict[str, str]]:
    notes: dict[str, str] = {}
    tags: Any = getattr(image, "tag_v2", {})
    white_first = tags.get(_PHOTOMETRIC) == 0
    unsigned32 = tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1
    deep_colour = _channel_bits(head, tags) > 8 and image.mode in ("RGB", "RGBA")

    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    upright = ImageOps.exif_transpose(image)
    if orientation in range(2, 9):
        notes["orientation"] = f"EXIF orientation {orientation} applied"

    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        values: NDArray[Any] = np.asarray(upright)
        if upright.mode == "I" and unsigned32:
            values = values.view(np.uint32)
        low, high = robust_range(values)
        notes["intensity"] = f"percentiles 0.5 to 99.5: {low:g} to {high:g}"
        pixels = to_unit(values, low, high)
        if white_first:
            notes["inverted"] = "TIFF minimum is white"
            pixels = 1 - pixels
        return pixels, notes
    if deep_colour:
        notes["depth"] = "16-bit colour read at 8 bits a channel"
    return _eight_bits(upright, notes), notes


def _channel_bits(head: bytes, tags: Any) -> int:
    """Bits of a sample in the file, which Pillow does not always tell; 8 where it is neither PNG nor TIFF."""
    if image_format(head) == "PNG":
        return head[24] if len(head) > 24 else 8  # the ninth byte of the IHDR chunk's data (PNG, 11.2.1)
    return int(max(tags.get(_BITS, (8,))))


def _eight_bits(image: Image.Image, notes: dict[str, str]) -> FloatArray:
    """float32 (H, W) or (H, W, 3) of any mode of 8 bits a channel; adds to `notes`."""
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"), np.float32) / np.float32(255)
    if "transparency" in image.info or "a" in image.mode.lower().replace("lab", ""):
        rgba = np.asarray(image.convert("RGBA"))
        colour = rgba[..., :3].astype(np.float32) / np.float32(255)
        alpha = rgba[..., 3:]
        if not alpha.any():
            notes["alpha"] = "zero everywhere: passed over"
        elif (alpha < 255).any():
            notes["alpha"] = "laid on black"
            colour *= alpha.astype(np.float32) / np.float32(255)
        return grey_if_equal(colour)
    return grey_if_equal(np.asarray(image.convert("RGB"), np.float32) / np.float32(255))

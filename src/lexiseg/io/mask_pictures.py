"""The values of a mask that is stored as a picture: grey, colour, palette, alpha, white first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lexiseg.errors import UnreadableScan
from lexiseg.io.images import open_image
from lexiseg.io.mask_choices import GREY, Paint
from lexiseg.io.names import image_format
from lexiseg.io.read import MAX_PIXELS, reading, regular_head
from lexiseg.values.arrays import BoolArray

_ORIENTATION, _PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _COMPRESSION = 274, 262, 258, 339, 259
_WHITE_IS_ZERO, _JPEG_IN_TIFF, _FLOATS = 0, (6, 7), 3
# What rounding may change of a colour's share of its brightest channel, and what JPEG's halved colour may.
_ONE_HUE, _ONE_HUE_OF_JPEG = 2, 64
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Where a PNG may say how it is turned. Pillow decodes it to look, which few need."""
DRAWN_ON_TURNED = "masks are taken as drawn on the turned one"
INDICES = "palette: indices count, 0 is background"
ONE_COLOUR = "one colour: its brightest channel"
"""Notes that hold where no colour is wanted."""
# Colours as dark as this may be numbers of targets: 0x010000 and 0x000100 are two, whatever rounding does.
_DARK, _ONE_DARK_HUE = 32, 0.49


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a picture holds.

    Attributes:
        values: (H, W), upright: grey levels, a palette's indices, alpha, the brightest channel, or colours.
        paint: what colours they stand for.
        lossy: whether compression changed them.
        one_bit: whether they have one bit.
        notes: what was decided.
    """

    values: NDArray[Any]
    paint: Paint = GREY
    lossy: bool = False
    one_bit: bool = False
    notes: tuple[str, ...] = ()


def drawn(image: Image.Image, head: bytes) -> Drawn:
    """The values of an opened image.

    - Palettes count by index, whatever their colours: 0 is background. Where a colour is wanted, their colours count.
    - Where what can be seen has one colour and alpha varies, alpha is the mask. Otherwise what is transparent is
      background, and an alpha of zeros only is passed over.
    - Of one colour on black the brightest channel counts, and the colour is kept. Several colours are several values.
    - TIFF's "white is zero" is honoured, in 16 and 32 bits too.
    - The EXIF orientation is applied.

    Args:
        image: opened by `open_image`.
        head: the file's first bytes.

    Raises:
        UnreadableScan: 16-bit colour whose values 8 bits do not hold; the reason alone.
    """
    tags: Any = getattr(image, "tag_v2", {})
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    lossy = _is_lossy(head, tags)
    notes = []
    turned = image.getexif().get(_ORIENTATION, 1)
    image.load()
    upright = ImageOps.exif_transpose(image)
    if turned in range(2, 9):
        notes.append(f"its own EXIF orientation {turned} applied")
    mode = upright.mode
    if mode == "1":
        return Drawn(np.asarray(upright).astype(np.uint8), one_bit=True, notes=tuple(notes))
    if mode in ("I", "F") or mode.startswith("I;16"):
        values = np.asarray(upright)
        if white_is_zero:
            notes.append("white is zero: inverted")
            values = _inverted(values, tags)
        return Drawn(values, lossy=lossy, notes=tuple(notes))
    if mode == "P" and "transparency" not in upright.info:
        return Drawn(np.asarray(upright), _palette(upright), notes=(*notes, INDICES))
    if mode == "L" and "transparency" not in upright.info:
        if white_is_zero:  # Pillow inverts 8 bits and fewer itself.
            notes.append("white is zero: inverted")
        return Drawn(np.asarray(upright), lossy=lossy, notes=tuple(notes))
    if "transparency" in upright.info or mode.lower() in ("la", "pa", "rgba"):
        rgba = np.asarray(upright.convert("RGBA"))
        seen, paint, note = _without_alpha(rgba)
        if seen.ndim == 3 and mode in ("P", "PA"):
            indices = np.asarray(upright if mode == "P" else upright.getchannel("P"))
            return Drawn(indices, _palette(upright), notes=(*notes, INDICES))
        notes += [note] if note else []
    else:
        seen, paint = np.asarray(upright.convert("RGB")), GREY
    _refuse_lost_bits(seen, head, tags)
    found = one_value_each(seen, lossy=lossy) if seen.ndim == 3 else Drawn(seen, paint, lossy=lossy)
    return replace(found, notes=(*notes, *found.notes))


def _palette(image: Image.Image) -> Paint:
    """The colours of a picture with a palette; black of an index that it does not have."""
    written = image.getpalette("RGB") or []
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(written) // 3] = np.array(written, np.uint8).reshape(-1, 3)
    return Paint(palette=_packed(colours))


def _shades(colour: NDArray[np.floating[Any]]) -> Paint:
    """One colour from black to its brightest, by the value of its brightest channel."""
    shades = np.clip(np.rint(np.arange(256)[:, None] * colour), 0, 255).astype(np.uint8)
    return Paint(palette=_packed(shades), shades=True)


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours (..., 3) as 0xRRGGBB."""
    return np.asarray(rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32))


def one_value_each(rgb: NDArray[np.uint8], *, lossy: bool) -> Drawn:
    """One value for each pixel of a picture (H, W, 3).

    The brightest channel where there is one colour on black, antialiased or not; else colours, 0xRRGGBB.
    """
    brightest: NDArray[np.uint8] = rgb.max(axis=2)
    if np.array_equal(rgb.min(axis=2), brightest):
        return Drawn(brightest, _shades(np.ones(3)), lossy=lossy)
    level = brightest.astype(np.int32)
    hue = rgb[level == level.max()].mean(axis=0) / level.max()
    expected = level[..., None] * hue
    bright = _ONE_HUE if level.max() >= _DARK else _ONE_DARK_HUE
    if (np.abs(rgb - expected) <= (_ONE_HUE_OF_JPEG if lossy else bright)).all():
        # Where compression overshoots, the brightest pixel has the least of the others' colour.
        inside = rgb[level >= level.max() / 2] / level[level >= level.max() / 2][:, None] if lossy else hue[None]
        return Drawn(
            brightest,
            _shades(np.median(inside, axis=0)),
            lossy=lossy,
            notes=(ONE_COLOUR,),
        )
    return Drawn(_packed(rgb), Paint(packed=True), lossy=lossy)


def _without_alpha(rgba: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Paint, str]:
    """(H, W, 3) with transparency laid on black, or alpha itself (H, W) and its colour; and what was done."""
    colour, alpha = rgba[..., :3], rgba[..., 3]
    if not alpha.any() and (colour == colour[0, 0]).all():
        return alpha, GREY, "everything is transparent: empty"
    if alpha.min() == alpha.max():
        return colour, GREY, "alpha is the same everywhere: passed over" if alpha.max() < 255 else ""
    seen = colour[alpha > 0]
    if (seen == seen[0]).all():
        # Black, white and grey with alpha are how a plain mask is stored: no colour tells a target.
        paint = GREY if (seen[0] == seen[0, 0]).all() else _alpha_of(seen[0])
        return alpha, paint, "alpha is the mask: what is visible has one colour"
    laid = (colour.astype(np.uint16) * alpha[..., None] + 127) // 255
    return laid.astype(np.uint8), GREY, "transparent pixels are background"


def _alpha_of(colour: NDArray[np.uint8]) -> Paint:
    """One colour, whatever its alpha."""
    palette = np.where(np.arange(256) > 0, _packed(colour), 0)
    return Paint(palette=palette, shades=True)


def _inverted(values: NDArray[Any], tags: Any) -> NDArray[Any]:
    """Grey levels that count from white, counted from black."""
    if values.dtype.kind == "f" or tags.get(_SAMPLE_FORMAT, (1,))[0] == _FLOATS:
        return np.asarray(values.max() - values)
    top = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    unsigned = values.view(np.uint32) if values.dtype == np.int32 else values
    return np.asarray(top - unsigned.astype(np.int64))


def _is_lossy(head: bytes, tags: Any) -> bool:
    kind = image_format(head)
    if kind == "WEBP":
        # "VP8L" is the lossless stream (RFC 9649, 2.6); it may follow the extended header's other chunks.
        return b"VP8L" not in head
    return kind == "JPEG" or tags.get(_COMPRESSION) in _JPEG_IN_TIFF


def _refuse_lost_bits(seen: NDArray[np.uint8], head: bytes, tags: Any) -> None:
    """Pass unless 16-bit colour was read at 8 bits (Pillow's limit) and nothing is left of it."""
    bits = head[24] if image_format(head) == "PNG" and len(head) > 24 else int(max(tags.get(_BITS, (8,))))
    if bits > 8 and not seen.any():
        raise UnreadableScan("it is 16-bit colour of which 8 bits hold nothing; save it as grey or in 8 bits")


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 to 8; 1 where there is no such file, or it is none that has one."""
    try:
        with reading(path):
            kind = image_format(regular_head(path))
            if kind is None or (kind == "PNG" and not any(mark in path.read_bytes() for mark in _PNG_EXIF)):
                return 1
            with open_image(path, MAX_PIXELS) as (image, _):
                found = image.getexif().get(_ORIENTATION, 1)
    except UnreadableScan:
        return 1
    return int(found) if found in range(1, 9) else 1


def turned_by_exif(mask: BoolArray, orientation: int) -> BoolArray:
    """A mask on an image's stored pixels (H, W) as the EXIF orientation shows them; (W, H) for 5 to 8.

    Source: CIPA DC-008 (Exif 3.0), tag 274.
    """
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    turned = np.rot90(mask, quarter_turns)
    if orientation in (2, 4):
        return turned[:, ::-1]
    return turned[::-1] if orientation in (5, 7) else turned

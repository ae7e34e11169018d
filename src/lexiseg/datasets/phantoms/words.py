"""Words for captions: where a mask lies, and how large it is; and letters and callipers, burnt into pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import box_of

_ROWS = ("upper", "central", "lower")
_COLUMNS = ("left", "center", "right")
_WHERE = {
    "center": "in the center",
    "left": "on the left side",
    "right": "on the right side",
    "upper center": "in the upper central part",
    "lower center": "in the lower central part",
}


def place_of(
    mask: BoolArray,
    *,
    within: BoolArray | None = None,
    rows: tuple[float, float] = (1 / 3, 2 / 3),
    columns: tuple[float, float] = (1 / 3, 2 / 3),
) -> str:
    """Where a mask's centroid lies in the image as displayed: "upper left", "center", "lower center", ...

    Args:
        mask: bool (H, W).
        within: relative to this mask's bounding box instead of the whole image.
        rows, columns: where the upper third ends and the lower begins, left and right likewise, as fractions.

    Returns:
        One of nine places; "nowhere" for an empty mask.
    """
    if not mask.any():
        return "nowhere"
    top, left, height, width = 0, 0, *mask.shape
    if within is not None and within.any():
        left, top, right, bottom = box_of(within)
        height, width = bottom - top, right - left
    y, x = mask.nonzero()
    v, u = (float(y.mean()) + 0.5 - top) / height, (float(x.mean()) + 0.5 - left) / width
    row = _ROWS[int(v >= rows[0]) + int(v >= rows[1])]
    column = _COLUMNS[int(u >= columns[0]) + int(u >= columns[1])]
    return column if row == "central" else f"{row} {column}"


def where(place: str) -> str:
    """A place of `place_of` as a phrase: "in the upper left", "on the left side", ..."""
    return _WHERE.get(place, f"in the {place}")


def size_of(mask: BoolArray, *, small: float, large: float) -> str:
    """ "small" below the first fraction of the image's area, "large" from the second, else "medium"."""
    share = float(mask.mean())
    return "small" if share < small else "large" if share >= large else "medium"


def a(words: str) -> str:
    """The words with their indefinite article."""
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


def sentence(text: str) -> str:
    """With a capital first letter, single spaces, and a full stop."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def write_text(pixels: FloatArray, text: str, *, at: tuple[float, float], height: float, value: float) -> FloatArray:
    """Letters on a copy of the image.

    Args:
        pixels: float32 (H, W).
        text: what to write.
        at: (row, column) of the top left corner, as fractions of the image.
        height: of the letters, as a fraction of the image's height.
        value: brightness of the letters.
    """
    # Pillow's bitmap font is part of its source: the same bytes everywhere, unlike an outline font.
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (round(v) for v in font.getbbox(text))
    glyphs = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(glyphs).text((-left, -top), text, font=font, fill=255)
    rows = max(5, round(height * pixels.shape[0]))
    scaled = glyphs.resize((max(1, round(rows * glyphs.width / glyphs.height)), rows), Image.Resampling.BILINEAR)
    alpha = np.asarray(scaled, np.float32) / 255
    y, x = round(at[0] * pixels.shape[0]), round(at[1] * pixels.shape[1])
    out = pixels.copy()
    under = out[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    alpha = alpha[: under.shape[0], : under.shape[1]]
    under += (np.float32(value) - under) * alpha
    return out


def write_callipers(pixels: FloatArray, mask: BoolArray, *, value: float = 0.85) -> FloatArray:
    """A cross at both ends of the mask's longest and shortest principal axis, joined by dots, on a copy."""
    y, x = mask.nonzero()
    if len(y) < 9:
        return pixels.copy()
    points = np.stack([y, x], axis=1).astype(np.float64)
    middle = points.mean(axis=0)
    axes = np.linalg.svd(np.cov((points - middle).T))[0].T
    out = pixels.copy()
    arm = max(2, round(0.012 * min(pixels.shape)))
    for axis in axes:
        along = (points - middle) @ axis
        ends = [middle + axis * along.min(), middle + axis * along.max()]
        for row, column in np.rint(ends).astype(int):
            out[max(row - arm, 0) : row + arm + 1, max(column, 0) : column + 1] = value
            out[max(row, 0) : row + 1, max(column - arm, 0) : column + arm + 1] = value
        dots = max(2, round(float(along.max() - along.min()) / max(2.0, 0.012 * min(pixels.shape))))
        line = np.rint(np.linspace(ends[0], ends[1], dots)).astype(int)
        rows = np.clip(line[:, 0], 0, pixels.shape[0] - 1)
        columns = np.clip(line[:, 1], 0, pixels.shape[1] - 1)
        out[rows, columns] = np.maximum(out[rows, columns], np.float32(value * 0.8))
    return out

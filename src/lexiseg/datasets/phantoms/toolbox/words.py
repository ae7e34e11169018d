"""Captions: words that are measured on the mask, and grammar."""

from __future__ import annotations

import numpy as np

from lexiseg.scans.scan import BoolArray

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
        filled = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
        top, left = int(filled[0][0]), int(filled[1][0])
        height, width = int(filled[0][-1]) - top + 1, int(filled[1][-1]) - left + 1
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

"""What the values of a mask file mean: nothing and one thing, soft edges, or several things to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray


class Kind(StrEnum):
    """What a file's values are."""

    plain = "plain"
    """0 and at most one value above it, or one value everywhere."""
    soft = "soft"
    """0, one plateau, and edges between them."""
    several = "several"
    """Anything else: labels, or no mask."""


@dataclass(frozen=True, eq=False)
class Levels:
    """The values of a file, looked at.

    Attributes:
        kind: what they are.
        held: all distinct values, sorted; of soft files too.
        top: the value of what is inside; 0 of an empty or `several` file.
    """

    kind: Kind
    held: NDArray[Any]
    top: float

    @property
    def cut(self) -> float:
        """Where a soft file is cut: half of its plateau."""
        return self.top / 2


# A mask with soft edges in whole numbers needs room for edges: 0 to 2 in a lossless file are labels.
_ROOM_FOR_EDGES = 32
# Labels are few. Where values are so few, a patch of any third one is a label.
_FEW = 16
# Else a patch counts from this share of the plateau to as much below it: the feet of a blur are flat, its slope is not.
_FEET = 1 / 16
# Between a quarter and three quarters of the plateau a value is neither inside nor outside.
_BETWEEN = (0.25, 0.75)
# So many pixels from what is surely inside and from what is surely outside, and a slope is no edge any more. A blur of
# four pixels (its standard deviation) rises from a quarter to three quarters within 5.4 pixels.
_WIDEST_EDGE = 6
# Where two blurred shapes nearly touch, what is between them is far from the outside.
_MOST = 0.9


def look_at(values: NDArray[Any], *, lossy: bool = False, colours: bool = False) -> Levels:
    """Tell plain masks, soft ones and label maps apart.

    Soft is what has one plateau above 0 and slopes beside it. A patch (3 pixels along each axis) of equal values
    between the two is a label of its own, since slopes are not flat. Of a lossless file, three distinct values are
    never soft: of 0, 128 and 255 nobody knows whether 128 is an edge.

    Args:
        values: real numbers (H, W) or (D, H, W).
        lossy: whether the file's compression changes values, as JPEG's does; its plateau is then not its maximum.
        colours: whether values are colours, which have no order.
    """
    above = values[values != 0]
    if above.size == 0:
        return Levels(Kind.plain, np.zeros(1, values.dtype), 0.0)
    low, high = above.min(), above.max()
    if low == high and 0 < high < np.inf:
        held = np.array([high] if above.size == values.size else [0, high], values.dtype)
        return Levels(Kind.plain, held, float(high))
    held = np.unique(values)
    ordered = not colours and bool(np.isfinite(held).all()) and held[0] >= 0
    # Compression overshoots at edges, so a lossy file's plateau is the middle of its upper half.
    top = (float(np.median(above[above >= high / 2])) if lossy else float(high)) if ordered else 0.0
    soft = ordered and _has_soft_edges(values, held, top, lossy)
    return Levels(Kind.soft, held, top) if soft else Levels(Kind.several, held, 0.0)


def _has_soft_edges(values: NDArray[Any], held: NDArray[Any], top: float, lossy: bool) -> bool:
    whole = values.dtype.kind in "biu"
    if not lossy and (held.size <= 3 or (whole and top < _ROOM_FOR_EDGES)):
        return False
    share = values.astype(np.float64) / top
    between = (share > _BETWEEN[0]) & (share < _BETWEEN[1])
    beside_both = _near(share <= _BETWEEN[0]) & _near(share >= _BETWEEN[1])
    if np.count_nonzero(beside_both & between) < _MOST * np.count_nonzero(between):
        return False
    foot = 0.0 if held.size <= _FEW and not lossy else _FEET
    third = (share > foot) & (share < 1 - foot)
    if lossy:
        third |= share > 1 + _BETWEEN[0]
    return not _has_patch(values, third)


def _near(wanted: BoolArray) -> BoolArray:
    """Where a wanted pixel lies within `_WIDEST_EDGE` pixels along every axis."""
    from scipy.ndimage import maximum_filter

    found: BoolArray = maximum_filter(wanted.view(np.uint8), size=2 * _WIDEST_EDGE + 1) > 0
    return found


def _has_patch(values: NDArray[Any], wanted: BoolArray) -> bool:
    """Whether some wanted pixel and all its neighbours hold one value, along axes that are long enough for any."""
    if not wanted.any():
        return False
    flat = wanted
    for axis, length in enumerate(values.shape):
        if length < 3:
            continue
        ahead = [slice(None)] * values.ndim
        behind = [slice(None)] * values.ndim
        middle = [slice(None)] * values.ndim
        ahead[axis], behind[axis], middle[axis] = slice(2, None), slice(None, -2), slice(1, -1)
        # Equal along one axis after the other: what is left has a block of equal values around it.
        equal = (values[tuple(ahead)] == values[tuple(middle)]) & (values[tuple(behind)] == values[tuple(middle)])
        kept = np.zeros_like(flat)
        kept[tuple(middle)] = equal & flat[tuple(ahead)] & flat[tuple(behind)] & flat[tuple(middle)]
        flat = kept
    return bool(flat.any())

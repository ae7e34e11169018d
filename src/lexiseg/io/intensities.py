"""From a file's numbers to float32 in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.values.scan import FloatArray

PERCENTILES = (0.5, 99.5)
"""The share of the pixels, in per cent, that become 0 and 1 where a file names no range of its own."""

_SAMPLE = 2**24
_SLAB = 2**22


def robust_range(values: NDArray[Any]) -> tuple[float, float]:
    """The PERCENTILES of the finite values, or their minimum and maximum where the percentiles are equal.

    So a few bright pixels (a catheter, a burnt-in letter, one hot voxel) do not darken the rest. Arrays of
    more than 2**24 values are sampled at a fixed step.

    Args:
        values: real numbers of any shape; NaN and infinities are passed over.

    Returns:
        The low and the high value; low < high.

    Raises:
        UnreadableScan: no value is finite, or all finite values are equal.
    """
    flat = values.ravel(order="K")
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        if not finite.all():
            flat = flat[finite]
    if flat.size == 0:
        raise UnreadableScan("no pixel is a finite number; expected an image to be there")
    smallest, largest = float(flat.min()), float(flat.max())
    if smallest == largest:
        raise UnreadableScan(f"all pixels are equal ({smallest:g}); there is nothing to segment in it")
    step = -(-flat.size // _SAMPLE)
    low, high = (float(p) for p in np.percentile(flat[::step].astype(np.float64), PERCENTILES))
    return (low, high) if low < high else (smallest, largest)


def to_unit(values: NDArray[Any], low: float, high: float) -> FloatArray:
    """Map `low` to 0 and `high` to 1, and clip; NaN becomes 0, -inf 0 and +inf 1.

    Args:
        values: real numbers (..., any shape).
        low: the value that becomes 0.
        high: the value that becomes 1; greater than `low`.

    Returns:
        float32 of the shape of `values`, C-contiguous.

    Raises:
        UnreadableScan: the range is wider than float64 can hold.
    """
    span = high - low
    if not np.isfinite(span):
        raise UnreadableScan(f"the values span {low:g} to {high:g}, wider than float64 can hold; rescale them")
    unit = np.empty(values.shape, np.float32)
    # Slab by slab: float64 arithmetic for a whole volume would need three times its memory.
    step = max(1, _SLAB // max(1, values[0].size))
    for start in range(0, len(values), step):
        slab = values[start : start + step].astype(np.float64)
        slab -= low
        slab /= span
        np.clip(slab, 0.0, 1.0, out=slab)
        unit[start : start + step] = np.nan_to_num(slab, copy=False, nan=0.0)
    return unit


def grey_if_equal(pixels: FloatArray) -> FloatArray:
    """(H, W, 3) to (H, W) where the three channels are equal everywhere; otherwise `pixels` itself."""
    red = pixels[..., 0]
    if np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]):
        return np.ascontiguousarray(red)
    return pixels


def refuse_flat(pixels: FloatArray) -> None:
    """Raise UnreadableScan where an image (H, W) or (H, W, 3) has one colour only."""
    if np.all(pixels == pixels[:1, :1]):
        raise UnreadableScan("all pixels are equal; there is nothing to segment in it")

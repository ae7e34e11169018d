"""What every format does with numbers: ranges, depth, alpha, grey stored as colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.values.arrays import FloatArray
from lexiseg.values.sentinels import stored_top, without_sentinels
from lexiseg.values.window import refuse_flat_values, robust_range, to_unit


def stretch(
    values: NDArray[Any], notes: dict[str, str], *, inverted: str = "", count_unknown: bool = True
) -> tuple[FloatArray, NDArray[Any]]:
    """Numbers without a range of their own as pixels: percentiles, without sentinels; the rule of every format.

    Args:
        values: real numbers (H, W), or (H, W, 3) of one range; NaN where there is no measurement.
        notes: what was done is added.
        inverted: why low is bright; "" where low is dark.
        count_unknown: note how many values are not finite, where nothing else says why.

    Returns:
        float32 in [0, 1]; and `values` with NaN where sentinels are.

    Raises:
        UnreadableScan: no value is finite, or all are equal.
    """
    unknown = int(np.count_nonzero(~np.isfinite(values))) if count_unknown and values.dtype.kind == "f" else 0
    values, sentinel = without_sentinels(values)
    low, high = robust_range(values)
    if unknown:
        notes["not_finite"] = f"{unknown} values are not finite; NaN is shown black"
    notes["intensity"] = f"percentiles 0.5 to 99.5: {low:g} to {high:g}"
    pixels = to_unit(values, low, high)
    if inverted:
        notes["inverted"] = inverted
        pixels = 1 - pixels
    if sentinel:
        notes["sentinel"] = sentinel
    # Inverted, they would be white.
    pixels[np.isnan(values)] = 0
    return pixels, values


def volume_values(values: NDArray[Any], notes: dict[str, str], *, count_unknown: bool = False) -> NDArray[Any]:
    """A volume's numbers as they are used: NaN where sentinels are; the rule of every format.

    Args:
        values: real numbers, (D, H, W).
        notes: what was done is added.
        count_unknown: note how many voxels are not finite, of formats that do not say why.

    Returns:
        `values`, or floats where sentinels became NaN.

    Raises:
        UnreadableScan: no value is finite, or all are equal; the reason alone.

    Example:
        >>> notes = {}
        >>> volume_values(np.array([[[1.0, np.nan, 2.0]]]), notes, count_unknown=True).shape, notes
        ((1, 1, 3), {'not_finite': '1 voxels; NaN is shown black'})
    """
    unknown = int(np.count_nonzero(~np.isfinite(values))) if count_unknown and values.dtype.kind == "f" else 0
    if unknown:
        notes["not_finite"] = f"{unknown} voxels; NaN is shown black"
    values, sentinel = without_sentinels(values)
    if sentinel:
        notes["sentinel"] = sentinel
    refuse_flat_values(values)
    return values


def deep_colour(
    colour: NDArray[Any], notes: dict[str, str], *, alpha: NDArray[Any] | None = None, declared: int | None = None
) -> FloatArray:
    """Samples of 16-bit colour, or of grey with alpha, as pixels.

    Args:
        colour: unsigned (H, W, 3), or (H, W) grey.
        notes: what was done is added.
        alpha: unsigned (H, W), as wide as the colour; None where there is none.
        declared: the largest value by a header; None where there is none.

    Returns:
        float32 in [0, 1], (H, W, 3), or (H, W) where it is grey.
    """
    top, decided = stored_top(colour.astype(np.uint16, copy=False), declared)
    if decided:
        notes["depth"] = decided
    pixels = to_unit(colour, 0, top)
    if alpha is not None:
        lay_on_black(pixels, to_unit(alpha, 0, max(1, int(alpha.max()))), notes)
    return grey_if_equal(pixels) if pixels.ndim == 3 else pixels


def lay_on_black(pixels: FloatArray, alpha: FloatArray, notes: dict[str, str]) -> None:
    """Multiply colour by alpha (H, W) in [0, 1] in place; an alpha of zeros only is passed over."""
    if not alpha.any():
        notes["alpha"] = "zero everywhere: passed over"
    elif (alpha < 1).any():
        notes["alpha"] = "laid on black"
        pixels *= alpha[..., None] if pixels.ndim == 3 else alpha


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

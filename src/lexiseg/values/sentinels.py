"""Stored numbers that are no measurement, and the range that stored samples fill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.window import PERCENTILES

PADDING_NUMBERS = frozenset({-1024, -2000, -2048, -3024, -3071, -3072, -9999, -32767, -32768, -99999})
"""What scanners and exporters write where there is no body: below air, or the smallest of a type."""

# Of the rest's range, how far below it a value lies that is no part of it.
_KNOWN_GAP = 0.1
_UNKNOWN_GAP = 1.0
# Fill values of float formats: 1e20, 9.97e36 and the largest of the type.
_HUGE = 1e19
_ROUNDING = 1e-2
_SAMPLE = 2**22
_SLAB = 2**22
_WHOLE_STEPS = (8, 10, 12, 14, 16)


def without_sentinels(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Values with NaN where a sentinel is; the array itself where there is none.

    A sentinel is one number that many pixels hold at the end of the range, with nothing near it:

    - the smallest, where it is negative and one of PADDING_NUMBERS, a tenth of the rest's range below the rest;
    - the smallest, where it is negative, held by 0.5 % of the pixels, and further below the rest than the rest is
      wide;
    - the largest, as far away and as often, where it is beyond 1e19 in floats, the largest of an integer's type, or in
      uint16 a padding number's 16 bits.

    The rest's range is from its smallest value to its 99.5 percentile. So air at -1024 below lungs at -1000 stays,
    and so does a black background at 0. Types of 8 bits hold no sentinel.

    Args:
        values: real numbers, any shape.

    Returns:
        `values`, or a float copy (float32 where that holds the type exactly); and what was taken out, in words.
    """
    if values.dtype.kind not in "iuf" or values.dtype.itemsize == 1:
        return values, ""
    found: list[str] = []
    cleaned = values
    # Twice: -9999 may lie below -1024.
    for _ in range(2):
        number = _sentinel(cleaned)
        if number is None:
            break
        hits = cleaned == cleaned.dtype.type(number)
        found.append(f"{int(np.count_nonzero(hits))} of {number:g}")
        cleaned = _as_float(cleaned)
        cleaned[hits] = np.nan
    if not found:
        return values, ""
    return cleaned, f"{' and '.join(found)}, outside the range of the rest: not counted, shown black"


def _as_float(values: NDArray[Any]) -> NDArray[Any]:
    """A copy with room for NaN, in the same memory order."""
    if values.dtype.kind == "f" and values.dtype.itemsize >= 4:
        return values.copy(order="K")
    return values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64, order="K")


def _sentinel(values: NDArray[Any]) -> float | None:
    low, high = _ends(values)
    if low < 0:
        above = _next_to(values, low, up=True)
        if _apart(values, float(low), float(above), known=_is_padding(float(low)), low=True):
            return float(low)
    wrapped = values.dtype == np.uint16 and int(high) - 2**16 in PADDING_NUMBERS
    # The largest of an integer's type is what programs write for "no data" too.
    if wrapped or high > _HUGE or (values.dtype.kind in "iu" and high == _limit(values.dtype, 1)):
        below = _next_to(values, high, up=False)
        if _apart(values, float(high), float(below), known=False, low=False):
            return float(high)
    return None


def _slabs(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts along the first axis: masks of a whole volume would take as much memory again."""
    step = max(1, _SLAB // max(1, values[0].size)) if values.ndim > 1 else _SLAB
    for start in range(0, len(values), step):
        yield values[start : start + step]


def _ends(values: NDArray[Any]) -> tuple[Any, Any]:
    """The smallest and the largest finite value; the type's limits where there is none."""
    low, high = _limit(values.dtype, 1), _limit(values.dtype, -1)
    for slab in _slabs(values):
        finite = np.isfinite(slab)
        low = min(low, slab.min(where=finite, initial=_limit(values.dtype, 1)))
        high = max(high, slab.max(where=finite, initial=_limit(values.dtype, -1)))
    return low, high


def _next_to(values: NDArray[Any], number: Any, *, up: bool) -> Any:
    """The finite value next above a number, or next below it; the type's limit where there is none."""
    found = _limit(values.dtype, 1 if up else -1)
    for slab in _slabs(values):
        rest = np.isfinite(slab)
        rest &= slab > number if up else slab < number
        edge = slab.min(where=rest, initial=found) if up else slab.max(where=rest, initial=found)
        found = min(found, edge) if up else max(found, edge)
    return found


def _is_padding(number: float) -> bool:
    """Within the rounding of a header's slope and intercept."""
    if abs(number) > -2 * min(PADDING_NUMBERS):
        return number < -_HUGE
    return abs(number - round(number)) < _ROUNDING and round(number) in PADDING_NUMBERS


def _limit(dtype: np.dtype[Any], sign: int) -> Any:
    if dtype.kind == "f":
        return dtype.type(sign * np.inf)
    return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min


def _apart(values: NDArray[Any], number: float, nearest: float, *, known: bool, low: bool) -> bool:
    """Whether `number`, the smallest or the largest, is no part of the range that the rest fills from `nearest` on."""
    flat = values.ravel(order="K")
    sample = flat[:: -(-flat.size // _SAMPLE)].astype(np.float64)
    sample = sample[np.isfinite(sample) & (sample > number if low else sample < number)]
    if sample.size < 2:
        return False
    # Above, as below: the distance from the nearest to where nearly all of the rest lies.
    sign = 1 if low else -1
    width = float(np.percentile(sign * sample, PERCENTILES[1])) - sign * nearest
    # Two values alone are a mask.
    if not width > 0:
        return False
    gap = sign * (nearest - number)
    if known:
        return gap > _KNOWN_GAP * width
    held = sum(int(np.count_nonzero(slab == number)) for slab in _slabs(values)) / values.size
    return held > PERCENTILES[0] / 100 and gap > _UNKNOWN_GAP * width


def stored_top(samples: NDArray[np.uint16], declared: int | None = None) -> tuple[int, str]:
    """The value that is full brightness among 16-bit samples of colour, whose files rarely say it.

    Args:
        samples: uint16, any shape.
        declared: the largest value by a header; None where the file has none, and 16 bits are only its words.

    Returns:
        With no header: 65535 for bytes that were doubled, 65280 for bytes in the upper half, else the largest of
        8, 10, 12, 14 or 16 bits that holds the 99.5 percentile. With one: what it says, unless the 99.5
        percentile is below a sixteenth of it. And what was decided, "" for the header's or the whole range.
    """
    if declared is None:
        if not (samples % 257).any():
            return 65535, ""
        if not (samples & 255).any():
            return 65280, "8 bits in the upper half of 16-bit words"
    bright = float(np.percentile(samples.ravel()[:: -(-samples.size // _SAMPLE)], PERCENTILES[1]))
    most = 65535 if declared is None else declared
    if declared is not None and bright >= (declared + 1) / 16:
        return declared, ""
    bits = next(bits for bits in _WHOLE_STEPS if bright < 2**bits)
    top = min(2**bits - 1, most)
    return top, "" if top == most else f"{bits} bits in words of {max(most.bit_length(), bits)}"

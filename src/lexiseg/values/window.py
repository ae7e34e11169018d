"""From native units to [0, 1]: which values are black and which are white, decided once for a whole volume."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.values.arrays import FloatArray

NAMED_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "soft-tissue": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Centre and width in Hounsfield units, as radiologists set them."""

PERCENTILES = (0.5, 99.5)
"""The share of the values, in per cent, that become 0 and 1 where a scan names no range of its own."""

_OF_FILE = ("auto", "file", "percentiles")
_NUMBERS = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*")
# Hounsfield units of air are near -1000; no tissue but fat and lung is below this.
_AIR = -200.0
_SAMPLE = 2**24
_SLAB = 2**22


@dataclass(frozen=True)
class DicomWindow:
    """Centre and width as DICOM defines them; see `apply_window`.

    Attributes:
        centre: Window Center, in the scan's units.
        width: Window Width; at least 1 for LINEAR, above 0 otherwise.
        function: VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID.
        name: of a named window; "" for any other.
    """

    centre: float
    width: float
    function: str = "LINEAR"
    name: str = ""

    def apply(self, values: NDArray[Any]) -> FloatArray:
        """Values in the scan's units, any shape, to float32 in [0, 1]."""
        return apply_window(values, self.centre, self.width, self.function)

    def describe(self) -> str:
        """The window in words, as it is recorded."""
        return f"{self.name or self.function} window, centre {self.centre:g}, width {self.width:g}"


@dataclass(frozen=True)
class ValueRange:
    """The values that become black and white.

    Attributes:
        low, high: in the scan's units.
        about: where they come from, in words.
    """

    low: float
    high: float
    about: str

    def apply(self, values: NDArray[Any]) -> FloatArray:
        """Values in the scan's units, any shape, to float32 in [0, 1]."""
        return to_unit(values, self.low, self.high)

    def describe(self) -> str:
        """The range in words, as it is recorded."""
        return f"{self.about}: {self.low:g} to {self.high:g}"


Window = DicomWindow | ValueRange


def check_window(setting: object) -> str:
    """A window setting as it is written: a name, "auto", "file", "percentiles", or "CENTRE,WIDTH".

    - auto: the file's own window where it has one, else percentiles;
    - file: the file's own, an error where it has none;
    - percentiles: 0.5 and 99.5 of the whole scan;
    - lung, soft-tissue, bone, brain: of Hounsfield units; C,W: centre and width in the scan's units.

    Raises:
        UsageError: it is none of these.
    """
    text = str(setting).strip().lower()
    if text in _OF_FILE or text in NAMED_WINDOWS:
        return text
    numbers = _NUMBERS.fullmatch(text)
    if numbers is None or float(numbers[2]) < 1 or not all(np.isfinite(float(each)) for each in numbers.groups()):
        known = ", ".join((*_OF_FILE, *NAMED_WINDOWS))
        raise UsageError(
            f"window is {setting!r}; expected {known}, or centre,width such as 40,400, the width at least 1"
        )
    return text


def choose_window(setting: str, values: NDArray[Any], *, own: Window | None, unit: str, name: str) -> Window:
    """The window of a whole scan, from a setting.

    Args:
        setting: see `check_window`.
        values: of the whole scan, in its units; padding left out where it is known.
        own: the file's window; None where it has none.
        unit: of the values, "HU" or "" for none.
        name: of the scan, for messages.

    Raises:
        UnreadableScan: "file" without a window of the file, a window of Hounsfield units on other values, or
            no value is finite, or all are equal.
    """
    if setting == "file" and own is None:
        raise UnreadableScan(f"{name}: it names no window of its own; expected one, or choose another --window")
    if setting in ("auto", "file") and own is not None:
        return own
    if setting in ("auto", "percentiles"):
        return ValueRange(*robust_range(values), "percentiles 0.5 to 99.5")
    if setting in NAMED_WINDOWS:
        _refuse_other_units(setting, values, unit, name)
        return DicomWindow(*NAMED_WINDOWS[setting], name=setting)
    numbers = _NUMBERS.fullmatch(setting)
    assert numbers is not None, "checked by check_window"
    return DicomWindow(float(numbers[1]), float(numbers[2]))


def _refuse_other_units(setting: str, values: NDArray[Any], unit: str, name: str) -> None:
    """A file that does not name its unit may hold Hounsfield units, where air is far below 0."""
    lowest = _finite(values)[1]
    if unit == "HU" or (unit == "" and lowest < _AIR):
        return
    raise UnreadableScan(
        f"{name}: the {setting} window is of Hounsfield units, and its values (unit {unit or 'not named'}, from "
        f"{lowest:g}) are none; choose percentiles, or a centre and a width of its own values"
    )


def apply_window(values: NDArray[Any], centre: float, width: float, function: str = "LINEAR") -> FloatArray:
    """Apply a DICOM window, the output range being [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    With c the centre and w the width: LINEAR is ``(x - (c - 0.5)) / (w - 1) + 0.5`` and LINEAR_EXACT is
    ``(x - c) / w + 0.5``, both clipped; SIGMOID is ``1 / (1 + exp(-4 (x - c) / w))``.

    Args:
        values: after the modality LUT, any shape.
        centre: Window Center.
        width: Window Width; at least 1 for LINEAR, above 0 otherwise.
        function: VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID.

    Returns:
        float32 in [0, 1] of the shape of `values`; NaN becomes 0.

    Raises:
        ValueError: the width or the function is not one of these.
    """
    if not (width >= 1 if function == "LINEAR" else width > 0) or not np.isfinite([centre, width]).all():
        raise ValueError(f"a {function} window of centre {centre:g} and width {width:g} is not defined")
    x = values.astype(np.float64)
    if function == "LINEAR":
        if width == 1:
            return (x > centre - 0.5).astype(np.float32)
        y = (x - (centre - 0.5)) / (width - 1) + 0.5
    elif function == "LINEAR_EXACT":
        y = (x - centre) / width + 0.5
    elif function == "SIGMOID":
        y = 1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700)))
    else:
        raise ValueError(f"the VOI LUT function {function!r} is not LINEAR, LINEAR_EXACT or SIGMOID")
    return np.nan_to_num(np.clip(y, 0, 1), nan=0.0).astype(np.float32)


def robust_range(values: NDArray[Any]) -> tuple[float, float]:
    """The PERCENTILES of the finite values, or their minimum and maximum where the percentiles are equal.

    So a few bright pixels (a catheter, a burnt-in letter, one hot voxel) do not darken the rest. Arrays of
    more than 2**24 values are sampled at a fixed step, in the order in which they lie in memory.

    Args:
        values: real numbers of any shape; NaN and infinities are passed over.

    Returns:
        The low and the high value; low < high.

    Raises:
        UnreadableScan: no value is finite, or all finite values are equal.
    """
    flat, smallest, largest = _finite(values)
    step = -(-flat.size // _SAMPLE)
    low, high = (float(p) for p in np.percentile(flat[::step].astype(np.float64), PERCENTILES))
    return (low, high) if low < high else (smallest, largest)


def refuse_flat_values(values: NDArray[Any]) -> None:
    """Pass where a scan's values differ.

    Raises:
        UnreadableScan: no value is finite, or all finite values are equal.
    """
    smallest, largest = np.inf, -np.inf
    # Part by part: the finite values of a whole volume would be a copy of it.
    for part in values:
        kept = part[np.isfinite(part)] if part.dtype.kind == "f" else part
        if kept.size:
            smallest, largest = min(smallest, float(kept.min())), max(largest, float(kept.max()))
    _refuse_flat(smallest, largest)


def _finite(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """The finite values in the order in which they lie in memory, the smallest and the largest."""
    flat = values.ravel(order="K")
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        if not finite.all():
            flat = flat[finite]
    smallest, largest = (float(flat.min()), float(flat.max())) if flat.size else (np.inf, -np.inf)
    _refuse_flat(smallest, largest)
    return flat, smallest, largest


def _refuse_flat(smallest: float, largest: float) -> None:
    if smallest > largest:
        raise UnreadableScan("no pixel is a finite number; expected an image to be there")
    if smallest == largest:
        raise UnreadableScan(f"all pixels are equal ({smallest:g}); there is nothing to segment in it")


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

"""The grey-scale and colour pipelines of DICOM, from stored values to what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.read import grey_if_equal
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.window import apply_window, robust_range, to_unit

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class GreyPixels:
    """A grey image.

    Attributes:
        shown: float32 (H, W) in [0, 1], 1 being bright.
        native: (H, W) after the modality LUT, NaN where padding is; None of MONOCHROME1, whose values are dark
            where they are high.
        notes: what was done.
    """

    shown: FloatArray
    native: NDArray[Any] | None
    notes: dict[str, str]


def grey_pixels(stored: NDArray[Any], dataset: Dataset) -> GreyPixels:
    """Stored values (H, W) as a viewer shows them.

    Raises:
        UnreadableScan: no pixel is finite, or all pixels are equal.
    """
    from pydicom.pixels.processing import apply_modality_lut

    notes: dict[str, str] = {}
    values: NDArray[Any] = apply_modality_lut(stored, dataset)
    padding = _padding(stored, dataset)
    seen = values if padding is None else values[~padding]
    low, high = robust_range(seen)

    pixels = _voi(values, dataset, notes)
    if pixels is not None and np.ptp(pixels if padding is None else pixels[~padding]) == 0:
        notes["window"] = "the file's window hides everything: percentiles instead"
        pixels = None
    if pixels is None:
        pixels = to_unit(values, low, high)
        notes["intensity"] = f"percentiles 0.5 to 99.5: {low:g} to {high:g}"
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 1 - pixels
        notes["inverted"] = "MONOCHROME1"
    if padding is not None:
        pixels[padding] = 0
        notes["padding"] = "black"
    native = None if "inverted" in notes else values if padding is None else np.where(padding, np.nan, values)
    return GreyPixels(pixels, native, notes)


def colour_pixels(stored: NDArray[Any], dataset: Dataset) -> FloatArray:
    """RGB (H, W, 3), or palette indices (H, W), to float32 (H, W, 3) in [0, 1]; (H, W) where it is grey.

    Raises:
        UnreadableScan: the samples are neither RGB nor a palette's.
    """
    from pydicom.pixels.processing import apply_color_lut

    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        coloured: NDArray[Any] = apply_color_lut(stored, dataset)
        top = int(np.iinfo(coloured.dtype).max)
    else:
        coloured = stored
        top = 2 ** int(dataset.BitsStored) - 1
    if coloured.ndim != 3 or coloured.shape[2] not in (3, 4):
        raise UnreadableScan(f"its pixels have shape {stored.shape}; expected (rows, columns) or RGB")
    return grey_if_equal(to_unit(coloured[..., :3], 0, top))


def _voi(values: NDArray[Any], dataset: Dataset, notes: dict[str, str]) -> FloatArray | None:
    """The VOI LUT, else the first window; None where the file has neither or it is not usable."""
    from pydicom.pixels.processing import apply_voi

    if dataset.get("VOILUTSequence"):
        entries, first, _ = dataset.VOILUTSequence[0].LUTDescriptor
        # The whole table by way of pydicom, for its range: declared bits are often wider than the data.
        table = apply_voi(np.arange(first, first + (entries or 2**16)), dataset)
        if table.min() < table.max():
            notes["intensity"] = "VOI LUT"
            mapped = apply_voi(np.rint(values).astype(np.int64), dataset)
            return to_unit(mapped, float(table.min()), float(table.max()))
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    try:
        shown = apply_window(values, centre, width, function)
    except ValueError as error:
        notes["window"] = f"{error}: percentiles instead"
        return None
    notes["intensity"] = f"{function} window, centre {centre:g}, width {width:g}"
    return shown


def _first(value: Any) -> float | None:
    """The first number of a DS element that may hold several, or nothing."""
    if value is None or value == "":
        return None
    numbers = [value] if isinstance(value, int | float | str) else list(value)
    return float(numbers[0]) if numbers else None


def _padding(stored: NDArray[Any], dataset: Dataset) -> BoolArray | None:
    """Where the stored values are padding (PS3.3 C.7.5.1.1.2); None where none, or nothing else, is."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    low, high = min(value, limit), max(value, limit)
    padding: BoolArray = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None

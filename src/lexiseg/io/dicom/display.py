"""The grey-scale and colour pipelines of DICOM, from stored values to what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.fields import integer_of
from lexiseg.io.intensities import deep_colour, grey_if_equal, stretch
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.window import apply_window, to_unit

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
    inverted = "MONOCHROME1" if dataset.PhotometricInterpretation == "MONOCHROME1" else ""
    # Of a table, pydicom subtracts the first value in the pixels' own type, which may overflow.
    wide = stored.astype(np.int64) if dataset.get("ModalityLUTSequence") else stored
    values: NDArray[Any] = apply_modality_lut(wide, dataset)
    padding = padding_of(stored, dataset, notes)
    shown = _voi(values, dataset, notes)
    if padding is not None:
        values = np.where(padding, np.nan, values)
    stretched: dict[str, str] = {}
    pixels, cleaned = stretch(values, stretched, inverted=inverted, count_unknown=padding is None)
    lost = np.isnan(cleaned) if cleaned.dtype.kind == "f" else np.zeros(cleaned.shape, np.bool_)
    if shown is not None and np.ptp(shown[~lost]) == 0:
        notes["window"] = "the file's window hides everything: percentiles instead"
        shown = None
    if shown is not None:
        stretched.pop("intensity")
        pixels = 1 - shown if inverted else shown
        pixels[lost] = 0
    notes.update(stretched)
    return GreyPixels(pixels, None if inverted else cleaned, notes)


def colour_pixels(stored: NDArray[Any], dataset: Dataset, notes: dict[str, str], *, keep: bool = False) -> FloatArray:
    """RGB (H, W, 3), or palette indices (H, W), to float32 (H, W, 3) in [0, 1].

    Args:
        stored: the samples.
        dataset: of the frame.
        notes: what was decided is added.
        keep: keep three channels where they are equal; else they become (H, W).

    Raises:
        UnreadableScan: the samples are neither RGB nor a palette's.
    """
    from pydicom.pixels.processing import apply_color_lut

    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        coloured: NDArray[Any] = apply_color_lut(stored, dataset)
        top = _palette_top(dataset, int(np.iinfo(coloured.dtype).max), int(coloured.max()), notes)
    else:
        coloured = stored
        top = 2 ** int(dataset.BitsStored) - 1
    if coloured.ndim != 3 or coloured.shape[2] not in (3, 4):
        raise UnreadableScan(f"its pixels have shape {stored.shape}; expected (rows, columns) or RGB")
    if coloured.dtype != np.uint16 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = to_unit(coloured[..., :3], 0, top)
        return pixels if keep else grey_if_equal(pixels)
    if keep:
        return to_unit(coloured[..., :3], 0, top)
    return deep_colour(coloured[..., :3], notes, declared=top)


def _palette_top(dataset: Dataset, words: int, largest: int, notes: dict[str, str]) -> int:
    """The full brightness of a palette: its words', unless only the bits of its descriptor, or 8, are in use."""
    descriptor = dataset.get("RedPaletteColorLookupTableDescriptor")
    for bits in (8, int(descriptor[2]) if descriptor else 16):
        if largest < 2**bits <= words:
            notes["palette"] = f"{bits} bits in words of 16"
            return int(2**bits - 1)
    return words


def _voi(values: NDArray[Any], dataset: Dataset, notes: dict[str, str]) -> FloatArray | None:
    """The VOI LUT, else the first window; None where the file has neither or it is not usable."""
    from pydicom.pixels.processing import apply_voi

    if dataset.get("VOILUTSequence"):
        entries, first, _ = dataset.VOILUTSequence[0].LUTDescriptor
        # The whole table by way of pydicom, for its range: declared bits are often wider than the data.
        table = apply_voi(np.arange(first, first + (entries or 2**16)), dataset)
        if table.min() < table.max():
            notes["intensity"] = "VOI LUT"
            # Not by pydicom, which subtracts in the table's own type.
            places = np.rint(np.nan_to_num(values)).astype(np.int64) - int(first)
            mapped = table[np.clip(places, 0, len(table) - 1)]
            return to_unit(mapped, float(table.min()), float(table.max()))
    centre, width = first_number(dataset.get("WindowCenter")), first_number(dataset.get("WindowWidth"))
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


def first_number(value: Any) -> float | None:
    """The first number of a DS element that may hold several, or nothing."""
    if value is None or value == "":
        return None
    numbers = [value] if isinstance(value, int | float | str) else list(value)
    return float(numbers[0]) if numbers else None


def padding_of(
    stored: NDArray[Any], dataset: Dataset, notes: dict[str, str], *, whole: bool = False
) -> BoolArray | None:
    """Where the stored values are padding (PS3.3 C.7.5.1.1.2); None where none is.

    Args:
        stored: (H, W).
        dataset: of the frame.
        notes: what was decided is added.
        whole: whether all of it may be padding, as in the outer slices of a volume.
    """
    value = integer_of(dataset, "PixelPaddingValue")
    if value is None or stored.dtype.kind not in "iu":
        return None
    limit = integer_of(dataset, "PixelPaddingRangeLimit")
    # As it is written; else its bits in the pixels' signedness: VRs are confused, and signs lost, on export.
    for bits in (None, int(dataset.BitsAllocated), int(dataset.BitsStored)):
        ends = [_wrapped(end, bits, stored.dtype) for end in (value, value if limit is None else limit)]
        padding: BoolArray = (stored >= min(ends)) & (stored <= max(ends))
        if padding.any() and (whole or not padding.all()):
            notes["padding"] = "black" if ends[0] == value else f"black: {value} stands for {ends[0]}"
            return padding
    return None


def _wrapped(value: int, bits: int | None, kind: np.dtype[Any]) -> int:
    if bits is None:
        return value
    value %= 2**bits
    return value - 2**bits if kind.kind == "i" and value >= 2 ** (bits - 1) else value

"""The pixels of a DICOM volume or film, file by file, in native units."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.display import colour_pixels, first_number, padding_of
from lexiseg.io.dicom.fields import integer_of, unit_of, usable
from lexiseg.io.dicom.files import (
    DicomInstances,
    ensure_transfer_syntax,
    refuse_large,
    refuse_many,
    refuse_mismatched_frames,
    refuse_no_image,
    undecodable,
)
from lexiseg.io.dicom.stacks import Stack
from lexiseg.io.intensities import volume_values
from lexiseg.io.names import printable
from lexiseg.io.read import ReadOptions
from lexiseg.values.scans import Volume
from lexiseg.values.window import DicomWindow, ValueRange, Window, refuse_flat_values

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_INT16 = np.iinfo(np.int16)
# Whole numbers up to here are exact in float32.
_EXACT = 2**24


def read_stack(
    stack: Stack, options: ReadOptions, *, notes: dict[str, str], source: Path, load: Callable[[Path], Dataset]
) -> Volume:
    """The volume, or the film, of a stack.

    Rescale or modality LUT give native units, slice by slice, and padding becomes NaN.  Values are int16 where that
    holds them exactly, else float32, else float64; of colour they are uint8 RGB.  The file's window holds where all
    slices have the same.  MONOCHROME1 is turned, so that bright is bright: the sum of the smallest and the largest
    value that the stored bits hold, less the value; its unit and its window go with it.

    Args:
        stack: the slices.
        options: the id and the limits.
        notes: what was decided before.
        source: what the volume is read from.
        load: a file's dataset, with its pixels.

    Raises:
        UnreadableScan: a slice cannot be read, or is another than its header said; the reason alone.
    """
    _, rows, columns = stack.geometry.shape
    refuse_large(rows, columns, options.max_pixels)
    refuse_many(stack.geometry.shape, options.max_voxels)
    places: dict[Path, dict[int, int]] = defaultdict(dict)
    for index, record in enumerate(stack.frames):
        if record is not None:
            places[record.frame.file][record.frame.number] = index
    copies = {(record.frame.file, record.frame.number): index for index, record in stack.copies}
    for file, number in copies:
        places.setdefault(file, {})[number] = -1
    slices = _Slices(stack.geometry.shape, missing=None in stack.frames)
    # Copies last: what they are copies of is there then.
    late: list[tuple[int, _Decoded]] = []
    for file, wanted in places.items():
        for each in _decoded(file, wanted, load, several=len(places) > 1):
            if wanted[each.number] < 0:
                late.append((copies[file, each.number], each))
                continue
            with _named(file, len(places) > 1):
                slices.put(wanted[each.number], each)
    for index, each in late:
        slices.refuse_other(index, each)
    return slices.volume(stack, options.id, notes, source)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """One frame: which of its file, its stored values, the dataset that holds for it, and notes on that."""

    number: int
    stored: NDArray[Any]
    dataset: Dataset
    notes: dict[str, str]


def _decoded(
    file: Path, wanted: dict[int, int], load: Callable[[Path], Dataset], *, several: bool
) -> Iterator[_Decoded]:
    """The frames of a file that are wanted."""
    with _named(file, several):
        dataset = load(file)
    for number, stored in _frames(dataset, file, several):
        if number in wanted:
            with _named(file, several):
                found, notes = usable(dataset, number)
            yield _Decoded(number, stored, found, notes)


def _frames(dataset: Dataset, file: Path, several: bool) -> Iterator[tuple[int, NDArray[Any]]]:
    from pydicom.pixels import get_decoder

    with _named(file, several):
        refuse_no_image(dataset)
        first, _ = usable(dataset)
        ensure_transfer_syntax(first)
        refuse_mismatched_frames(first)
        syntax = first.file_meta.TransferSyntaxUID
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError as error:
            raise undecodable(syntax) from error
    frames = enumerate(decoder.iter_array(first))
    while True:
        with _named(file, several):
            try:
                number, (stored, _) = next(frames)
            except StopIteration:
                return
            except (RuntimeError, NotImplementedError) as error:
                raise undecodable(syntax) from error
        yield number, stored


class _named:  # noqa: N801  (used as a statement)
    """Says which file of a series went wrong, when there are several."""

    def __init__(self, file: Path, several: bool) -> None:
        self._file, self._several = file, several

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: object) -> None:
        if not self._several or error is None or not isinstance(error, Exception) or isinstance(error, MemoryError):
            return
        name = printable(self._file.name)
        if isinstance(error, UnreadableScan):
            raise UnreadableScan(f"its slice {name}: {error}") from error
        words = f"is damaged or truncated (decoding it ended in {type(error).__name__}); copy or export it again"
        raise UnreadableScan(f"its slice {name} {words}") from error


class _Slices:
    """Slices as they come, in one array that is as narrow as it can be."""

    def __init__(self, shape: tuple[int, int, int], *, missing: bool) -> None:
        self._shape, self._missing = shape, missing
        self._array: NDArray[Any] | None = None
        self._windows: set[Window | None] = set()
        self._units: set[str] = set()
        self._inverted: set[bool] = set()
        self._notes: dict[str, Counter[str]] = defaultdict(Counter)

    def put(self, index: int, each: _Decoded) -> None:
        """Take a slice."""
        values = self._values(each.stored, each.dataset, self._take_note)
        if values.shape[:2] != self._shape[1:]:
            height, width = values.shape[:2]
            raise UnreadableScan(
                f"it has {height} rows and {width} columns, its header says {self._shape[1]} and {self._shape[2]}"
            )
        for key, text in each.notes.items():
            self._take_note(key, text)
        self._room_for(values)[index] = values

    def refuse_other(self, index: int, each: _Decoded) -> None:
        """Pass a frame that is equal to the slice at its place."""
        values = self._values(each.stored, each.dataset, lambda key, text: None)
        assert self._array is not None
        if not np.array_equal(self._array[index], values.astype(self._array.dtype), equal_nan=values.dtype.kind == "f"):
            raise UnreadableScan(
                "two different slices lie at one place, and nothing in their headers tells them apart; "
                "choose its files by name"
            )

    def _take_note(self, key: str, text: str) -> None:
        self._notes[key][text] += 1

    def _values(self, stored: NDArray[Any], dataset: Dataset, note: Callable[[str, str], None]) -> NDArray[Any]:
        if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
            told: dict[str, str] = {}
            colours = colour_pixels(stored, dataset, told, keep=True)
            for key, text in told.items():
                note(key, text)
            return np.rint(colours * 255).astype(np.uint8)
        from pydicom.pixels.processing import apply_modality_lut

        wide = stored.astype(np.int64) if dataset.get("ModalityLUTSequence") else stored
        values: NDArray[Any] = apply_modality_lut(wide, dataset)
        told = {}
        padding = padding_of(stored, dataset, told, whole=True)
        if padding is not None:
            values = np.where(padding, np.nan, values)
            note("padding", told["padding"])
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
        self._inverted.add(inverted)
        if inverted:
            values = _both_ends(dataset) - values
        self._units.add("" if inverted else unit_of(dataset))
        if dataset.get("VOILUTSequence"):
            note("voi_lut", "a VOI LUT is not used for a volume")
        self._windows.add(None if inverted else _window(dataset))
        return values

    def _room_for(self, values: NDArray[Any]) -> NDArray[Any]:
        """The array, wide enough for these values."""
        kind = _narrowest(values, missing=self._missing)
        if self._array is None:
            shape = self._shape if values.ndim == 2 else (*self._shape, 3)
            # Slices that are missing stay so.
            self._array = np.full(shape, np.nan, kind) if kind.kind == "f" else np.zeros(shape, kind)
        elif self._array.ndim != values.ndim + 1:
            raise UnreadableScan("its slices are partly grey and partly colour; choose its files by name")
        elif np.promote_types(kind, self._array.dtype) != self._array.dtype:
            self._array = self._array.astype(np.promote_types(kind, self._array.dtype))
        return self._array

    def volume(self, stack: Stack, id: str, before: dict[str, str], source: Path) -> Volume:
        """The volume that the slices are."""
        values = self._array
        if values is None:
            raise UnreadableScan("it holds none of the frames that its header names; export it again")
        told = {key: _summed(texts, len(stack.frames)) for key, texts in self._notes.items()}
        notes = {"format": "DICOM", **before, **stack.notes, **told}
        window: Window | None
        if values.ndim == 4:
            values, window = _grey_if_equal(values), ValueRange(0, 255, "as displayed")
            refuse_flat_values(values)
        else:
            values = volume_values(values, notes)
            window = self._window(values, notes)
        if self._inverted == {True, False}:
            raise UnreadableScan("its slices are partly MONOCHROME1 and partly not; choose its files by name")
        if self._inverted == {True}:
            notes["inverted"] = "MONOCHROME1: values are turned, and have no unit"
        return Volume(
            values=values,
            geometry=stack.geometry,
            id=id,
            unit=next(iter(self._units)) if len(self._units) == 1 else "",
            window=window,
            source=source,
            header=DicomInstances(tuple(None if each is None else each.frame for each in stack.frames)),
            notes=notes,
        )

    def _window(self, values: NDArray[Any], notes: dict[str, str]) -> Window | None:
        """The files' own window where all slices agree on one that shows something."""
        found = {each for each in self._windows if each is not None}
        if len(self._windows) > 1:
            notes["window"] = "slices name different windows: percentiles instead"
            return None
        if not found:
            return None
        window = next(iter(found))
        ends = np.array([np.nanmin(values), np.nanmax(values)], np.float64)
        try:
            shown = window.apply(ends)
        except ValueError as error:
            notes["window"] = f"{error}: percentiles instead"
            return None
        if shown[0] == shown[1]:
            notes["window"] = "the files' window hides everything: percentiles instead"
            return None
        return window


def _summed(texts: Counter[str], slices: int) -> str:
    """A note on slices: said of how many where it is not of all of them."""
    if len(texts) == 1:
        text, count = next(iter(texts.items()))
        return text if count >= slices else f"{text} (in {count} slices)"
    return "; ".join(f"{text} (in {count} slices)" for text, count in texts.most_common(3))


def _both_ends(dataset: Dataset) -> float:
    """The smallest and the largest value that the stored bits hold, in native units, added."""
    signed, bits = integer_of(dataset, "PixelRepresentation") == 1, integer_of(dataset, "BitsStored") or 16
    slope = first_number(dataset.get("RescaleSlope")) or 1.0
    intercept = first_number(dataset.get("RescaleIntercept")) or 0.0
    return slope * (-1 if signed else 2**bits - 1) + 2 * intercept


def _narrowest(values: NDArray[Any], *, missing: bool) -> np.dtype[Any]:
    """uint8 of colour; of others int16, float32 or float64, the first that holds the values exactly enough."""
    if values.ndim == 3:
        return values.dtype
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        return np.dtype(np.float32)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size == 0:
        return np.dtype(np.float32)
    low, high = float(finite.min()), float(finite.max())
    whole = finite.size == values.size and (values.dtype.kind in "iu" or bool((values == np.rint(values)).all()))
    if whole and not missing and _INT16.min <= low and high <= _INT16.max:
        return np.dtype(np.int16)
    # Fractions of 16-bit samples, and whole numbers up to here, are as exact in float32 as they need to be.
    return np.dtype(np.float32 if max(abs(low), abs(high)) < _EXACT else np.float64)


def _window(dataset: Dataset) -> Window | None:
    centre, width = first_number(dataset.get("WindowCenter")), first_number(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return None
    return DicomWindow(centre, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())


def _grey_if_equal(colours: NDArray[Any]) -> NDArray[Any]:
    """(D, H, W, 3) to (D, H, W) where the three channels are equal everywhere."""
    if colours.ndim == 4 and all(np.array_equal(colours[..., 0], colours[..., k]) for k in (1, 2)):
        return np.ascontiguousarray(colours[..., 0])
    return colours

"""Header fields of DICOM as they can be used: optional ones that say nothing count as absent, with a note."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lexiseg.errors import UnreadableScan

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Optional numbers: how many of them are looked at.
_NUMBERS = {
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
    "WindowCenter": 1,
    "WindowWidth": 1,
    "PixelSpacing": 2,
    "ImagerPixelSpacing": 2,
    "NominalScannedPixelSpacing": 2,
}
# VRs of text, which is ASCII unless another character set is in use.
_ASCII = ("DS", "IS", "UI", "CS", "TM", "LO", "SH", "DA", "PN", None)
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_LIFTED = (*_NUMBERS, *_TABLES, "VOILUTFunction", "RescaleType")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_NEEDED = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation")
_PHOTOMETRIC = (
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
)
_HALF_WORD, _WORD = 2**15, 2**16


def usable(dataset: Dataset, frame: int = 0) -> tuple[Dataset, dict[str, str]]:
    """A copy of an image's dataset on which the rest of reading a frame can rely.

    - The functional groups of the frame, shared and then its own, give spacing, rescale, window and tables as the top
      level does (enhanced objects keep them there, PS3.3 C.7.6.16).
    - An optional number that is empty, text, not finite, or of another VR without being a number, is taken out; so
      is a table without its descriptor or data. A slope without an intercept has 0, an intercept without a slope 1.
    - Tables of other than 8 or 16 bits an entry lie in words of 16, and their first value has the sign of its input.

    Args:
        dataset: with pixels; it is not changed.
        frame: which of its frames, from 0.

    Returns:
        The copy, and notes on what was taken out: no value of the header.

    Raises:
        UnreadableScan: what an image needs is missing or unknown; the reason alone.
    """
    from pydicom.dataset import Dataset as Copy

    copy: Any = Copy({tag: dataset.get_item(tag) for tag in dataset.keys()})  # noqa: SIM118  (a Dataset iterates values)
    for name in ("file_meta", "preamble"):
        if hasattr(dataset, name):
            setattr(copy, name, getattr(dataset, name))
    copy.set_original_encoding(*dataset.original_encoding, dataset.original_character_set)
    notes: dict[str, str] = {}
    _require(copy, notes)
    _lift(copy, notes, frame)
    unusable = [*_clean_numbers(copy), *_clean_tables(copy, notes)]
    if "NumberOfFrames" in copy and integer_of(copy, "NumberOfFrames") is None:
        del copy.NumberOfFrames
        unusable.append(("NumberOfFrames", "no such number"))
    if unusable:
        notes["ignored"] = ", ".join(f"{keyword} ({why})" for keyword, why in unusable)
    _pair_rescale(copy, notes)
    return copy, notes


def value_of(dataset: Dataset, keyword: str) -> Any:
    """An element's value; None where it is absent, empty, or cannot be parsed."""
    try:
        value = dataset.get(keyword)
        return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value
    # pydicom raises whatever its converters raise.
    except Exception:  # noqa: BLE001
        return None


@cache
def _tag_of(keyword: str) -> Any:
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return Tag(tag_for_keyword(keyword) or 0)


def _written(dataset: Dataset, keyword: str) -> str | None:
    """An element of ASCII as it is written, several values with backslashes between; None of any other.

    A study has thousands of files, and pydicom's conversion of an element takes longer than reading it.
    """
    from pydicom.dataelem import RawDataElement

    item: Any = dataset.get_item(_tag_of(keyword))
    # Its VR is None where the file does not say it.
    if not isinstance(item, RawDataElement) or item.VR not in _ASCII or not isinstance(item.value, bytes):
        return None
    if item.VR is None and (_vr_of(keyword) not in _ASCII or item.length == 0xFFFFFFFF):
        return None
    try:
        return item.value.decode("ascii").strip("\0 ")
    except UnicodeDecodeError:
        return None


@cache
def _vr_of(keyword: str) -> str:
    from pydicom.datadict import dictionary_VR

    return str(dictionary_VR(keyword))


def text_of(dataset: Dataset, keyword: str) -> str:
    """An element as text, several values with backslashes between; "" where it is absent or cannot be parsed."""
    written = _written(dataset, keyword)
    if written is not None:
        return written
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    several = hasattr(value, "__iter__") and not isinstance(value, str | bytes) and type(value).__name__ == "MultiValue"
    return "\\".join(map(str, value)) if several else str(value).strip()


def integer_of(dataset: Dataset, keyword: str) -> int | None:
    """An element's first whole number, also where its VR is another than the standard's; None where there is none."""
    value = _written(dataset, keyword) or value_of(dataset, keyword)
    # Bytes of an unknown VR: text where the standard has text.
    if isinstance(value, bytes) and _vr_of(keyword) not in ("DS", "IS"):
        return int.from_bytes(value, "little") if len(value) in (2, 4) else None
    numbers = _parsed(value, 1)
    return int(numbers[0]) if numbers is not None and numbers[0].is_integer() else None


def unit_of(dataset: Dataset) -> str:
    """Hounsfield units of a CT that was rescaled; without a rescale, nobody knows what its numbers are."""
    named = str(value_of(dataset, "RescaleType") or "HU").strip().upper()
    return "HU" if value_of(dataset, "Modality") == "CT" and "RescaleIntercept" in dataset and named == "HU" else ""


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    """All of an element's numbers; None where one is not finite or no number, or where there is none."""
    written = _written(dataset, keyword)
    value = value_of(dataset, keyword) if written is None else written.split("\\")
    count = 1 if value is None or isinstance(value, str | bytes) or not hasattr(value, "__len__") else len(value)
    if isinstance(value, bytes):
        count = value.count(b"\\") + 1
    numbers = _parsed(value, count)
    return tuple(numbers) if numbers is not None else None


def _parsed(value: Any, count: int) -> list[float] | None:
    """The first `count` finite numbers of a value; None where there are fewer."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip("\0 ").split("\\")
    elif isinstance(value, str) or not hasattr(value, "__iter__"):
        value = [value]
    try:
        numbers = [float(each) for each in list(value)[:count]]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _require(dataset: Any, notes: dict[str, str]) -> None:
    if all(value_of(dataset, name) is None for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnreadableScan("it holds no pixels: another kind of DICOM object, or cut off before them")
    photometric = str(value_of(dataset, "PhotometricInterpretation") or "").strip().upper()
    if value_of(dataset, "SamplesPerPixel") is None and photometric.startswith("MONOCHROME"):
        dataset.SamplesPerPixel = 1
    integers = _NEEDED if value_of(dataset, "PixelData") is not None else _NEEDED[:3]
    missing = [name for name in integers if value_of(dataset, name) is None]
    if missing:
        raise UnreadableScan(f"its header lacks {' and '.join(missing)}, which an image needs; export it again")
    if photometric not in _PHOTOMETRIC:
        raise UnreadableScan(
            "its Photometric Interpretation is none that is supported; export it as MONOCHROME2 or RGB"
        )
    if photometric == "PALETTE COLOR" and value_of(dataset, "RedPaletteColorLookupTableDescriptor") is None:
        raise UnreadableScan("its colours are of a palette that the file does not hold; export it as RGB")
    dataset.PhotometricInterpretation = photometric
    allocated, stored = integer_of(dataset, "BitsAllocated"), integer_of(dataset, "BitsStored")
    if allocated not in (1, 8, 16, 32, 64):
        raise UnreadableScan(f"its pixels have {allocated} bits allocated; expected 8, 16 or 32: export it again")
    if "BitsStored" in integers and (stored is None or not 0 < stored <= allocated):
        notes["bits"] = f"Bits Stored says nothing: {allocated}, as allocated"
        dataset.BitsStored, dataset.HighBit = allocated, allocated - 1
    if integer_of(dataset, "SamplesPerPixel") == 3 and value_of(dataset, "PlanarConfiguration") is None:
        notes["planar"] = "Planar Configuration says nothing: colour by pixel"
        dataset.PlanarConfiguration = 0


def _lift(dataset: Any, notes: dict[str, str], frame: int) -> None:
    several = (integer_of(dataset, "NumberOfFrames") or 1) > 1
    for group, index in zip(_GROUPS, (0, frame), strict=True):
        for macro in macros_of(value_of(dataset, group), index):
            for keyword in _LIFTED:
                if value_of(macro, keyword) is not None:
                    dataset[keyword] = macro[keyword]
                    notes["functional_groups"] = "of each frame" if several else "of frame 1"


def macros_of(groups: Any, index: int) -> Iterator[Dataset]:
    """The first item of each sequence in one item of a functional group."""
    try:
        elements = list(groups[index]) if groups else []
    except (TypeError, IndexError):
        return
    for element in elements:
        if element.VR == "SQ" and element.value:
            yield element.value[0]


def _clean_numbers(dataset: Any) -> Iterator[tuple[str, str]]:
    for keyword, count in _NUMBERS.items():
        if keyword not in dataset:
            continue
        value = value_of(dataset, keyword)
        numbers = _parsed(value, count)
        # A picture of one colour was not meant.
        if numbers is None or (keyword == "RescaleSlope" and numbers[0] == 0):
            del dataset[keyword]
            yield keyword, "empty" if value is None else "no such number"
        elif keyword.startswith("Rescale") and not isinstance(value, int | float):
            del dataset[keyword]
            setattr(dataset, keyword, numbers[0])


def _pair_rescale(dataset: Any, notes: dict[str, str]) -> None:
    for keyword, other, number in (("RescaleSlope", "RescaleIntercept", 1), ("RescaleIntercept", "RescaleSlope", 0)):
        if keyword not in dataset and other in dataset:
            setattr(dataset, keyword, number)
            notes["rescale"] = f"{keyword} is taken as {number}"


def _clean_tables(dataset: Any, notes: dict[str, str]) -> Iterator[tuple[str, str]]:
    little = bool(dataset.original_encoding[1] is not False)
    for keyword in _TABLES:
        if keyword not in dataset:
            continue
        table = value_of(dataset, keyword)
        if table is None:
            del dataset[keyword]
            continue
        item = _usable_table(table[0], little, signed=_signed_input(dataset, keyword))
        if item is None:
            del dataset[keyword]
            yield keyword, "no usable table"
        elif item is not table[0]:
            setattr(dataset, keyword, [item])
            notes["table"] = f"{keyword}: read by its data"


def _signed_input(dataset: Any, keyword: str) -> bool:
    intercept = _parsed(value_of(dataset, "RescaleIntercept"), 1) or [0.0]
    return integer_of(dataset, "PixelRepresentation") == 1 or (keyword == "VOILUTSequence" and intercept[0] < 0)


def _usable_table(item: Dataset, little: bool, *, signed: bool) -> Dataset | None:
    """The item itself where pydicom reads it as it is; one that it can read; None where there is no table."""
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset as Copy

    descriptor, data = _parsed(value_of(item, "LUTDescriptor"), 3), value_of(item, "LUTData")
    if descriptor is None or data is None:
        return None
    entries, first, bits = (int(number) for number in descriptor)
    entries = entries or _WORD
    if isinstance(data, bytes):
        kind = np.dtype(np.uint8) if len(data) in (entries, entries + 1) and entries > 1 else np.dtype("<u2")
        if kind.itemsize == 2 and not little:
            kind = kind.newbyteorder(">")
        numbers = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
        plain = item["LUTData"].VR == "OW" and len(data) == 2 * entries
    else:
        numbers = np.array([data] if isinstance(data, int) else list(data))
        plain = len(numbers) == entries
    if not 1 <= entries <= len(numbers) or numbers.dtype.kind not in "iu":
        return None
    wrapped = signed and first >= _HALF_WORD
    # In 8 bits, pydicom counts the entries in 8 bits too.
    if plain and not wrapped and (bits == 16 or (bits == 8 and entries <= 256 and numbers.max() < 256)):
        return item
    numbers = numbers[:entries].astype(np.int64) & (_WORD - 1)
    mended = Copy()
    mended.add(DataElement("LUTDescriptor", "SS", [0, first - _WORD if wrapped else first, 16]))
    mended.LUTDescriptor[0] = entries % _WORD
    mended.add(DataElement("LUTData", "US", [int(number) for number in numbers]))
    return mended

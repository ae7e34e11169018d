"""Headers of NRRD and MetaImage: how much a file claims to hold, where its voxels lie, and in which file they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.nifti_affine import is_regular

_LONGEST = 2**16
_LPS = np.diag([-1.0, -1.0, 1.0])
_SPACES = {
    "left-posterior-superior": _LPS, "lps": _LPS,
    "right-anterior-superior": np.eye(3), "ras": np.eye(3),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0]), "las": np.diag([-1.0, 1.0, 1.0]),
}  # fmt: skip
_UNITS = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001}
_UNPLACED = "orientation is not known: the header does not name it; left and right may be exchanged"

# What a voxel takes in bytes.
_NRRD_TYPES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short",
        "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip
# As numpy names them; MetaIO's long has 4 bytes.
_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
# Kinds of NRRD axes along which no space runs.
_NOT_SPACE = (
    "list",
    "vector",
    "time",
    "point",
    "covariant-vector",
    "normal",
    "complex",
    "scalar",
    "stub",
    *(f"{count}-{kind}" for count in (2, 3, 4) for kind in ("vector", "color", "gradient", "normal")),
    "rgb-color",
    "rgba-color",
)
_BYTES = ("uchar", "unsigned char", "uint8", "uint8_t")
# Deflate cannot shrink anything further than this (zlib's technical details).
_BEST_RATIO = 1032


@dataclass(frozen=True, eq=False)
class GridHeader:
    """What a header says.

    Attributes:
        sizes: (width, height, depth); depth is 1 in two dimensions.
        values: how many numbers there are of each voxel: colours, or volumes.
        colour: whether they are red, green and blue.
        fourth: whether they lie along a fourth axis, the slowest, and not voxel by voxel.
        affine: float64 (4, 4), voxel (column, row, slice) to RAS+ mm.
        data: the file that holds the voxels, which may be the header's own.
        least: bytes that the data file must have at least.
        size: bytes of the voxels, once they are unpacked.
        begin: where the voxels begin in the data file; -1 where they are its last bytes, or nobody knows.
        packed: whether they are compressed by deflate, as zlib's or gzip's streams.
        stored: the type of a number as it is stored; None of NRRD.
        placed: whether the header names the patient's axes.
        notes: what was decided.
    """

    sizes: tuple[int, int, int]
    values: int
    colour: bool
    affine: NDArray[np.float64]
    data: Path
    least: int
    size: int = 0
    begin: int = -1
    packed: bool = False
    stored: np.dtype[Any] | None = None
    fourth: bool = False
    placed: bool = True
    notes: dict[str, str] = field(default_factory=dict)


def nrrd_header(path: Path) -> GridHeader:
    """The header of a NRRD file (.nrrd, or .nhdr with its data beside it).

    Raises:
        UnreadableScan: it is damaged, of a kind that is not supported, or its data lie outside its folder.
    """
    fields = _nrrd_fields(path)
    sizes = _integers(fields.get("sizes", ""))
    count = len(sizes)
    directions = _vectors(fields["space directions"]) if "space directions" in fields else None
    kinds = [kind.lower() for kind in fields.get("kinds", "").split()] or ["domain"] * count
    if len(kinds) != count or (directions is not None and len(directions) != count) or min(sizes, default=0) < 1:
        raise UnreadableScan("its header does not agree with itself on the number of axes; export it again")
    space = [
        axis
        for axis in range(count)
        if (directions[axis] is not None if directions is not None else kinds[axis] not in _NOT_SPACE)
    ]
    rest = [axis for axis in range(count) if axis not in space]
    if len(space) not in (2, 3) or len(rest) > 1:
        raise UnreadableScan(f"it has {count} axes, {len(space)} of them in space; expected two or three, and one more")
    notes: dict[str, str] = {}
    origin = _vectors(fields["space origin"])[0] if "space origin" in fields else None
    if directions is not None:
        vectors = [directions[axis] or () for axis in space]
        turn = _SPACES.get(fields.get("space", "").lower().removesuffix("-time"))
    else:
        spacings = _numbers(fields.get("spacings", "")) or [1.0] * count
        if len(spacings) != count:
            raise UnreadableScan("its header has another number of spacings than of axes; export it again")
        vectors = [tuple(spacings[axis] * (k == place) for k in range(3)) for place, axis in enumerate(space)]
        turn = None
    if turn is None:
        notes["affine"] = _UNPLACED
    scale = _UNITS.get(fields.get("space units", "").split(" ")[0].strip('"'), 1.0)
    affine = _affine(vectors, origin, _LPS if turn is None else turn, scale)
    wide = next((size for size, names in _NRRD_TYPES.items() if fields.get("type", "").lower() in names), None)
    if wide is None:
        raise UnreadableScan("its type is none that is supported; save it as a whole or a floating-point number")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz", "bzip2", "bz2", "ascii", "text", "txt"):
        raise UnreadableScan("its encoding is none that is supported; save it as raw or gzip")
    total = int(np.prod(sizes, dtype=object))
    least = {"raw": total * wide, "gzip": total * wide // _BEST_RATIO, "gz": total * wide // _BEST_RATIO}
    data = _beside(path, fields.get("data file") or fields.get("datafile"))
    begin = _end_of_header(path, b"\n\n") if data == path else 0
    skips = any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip"))
    return GridHeader(
        sizes=_three([sizes[axis] for axis in space]),
        values=sizes[rest[0]] if rest else 1,
        colour=bool(rest) and sizes[rest[0]] == 3 and fields["type"].lower() in _BYTES,
        affine=affine,
        data=data,
        least=least.get(encoding, 0) + begin,
        size=total * wide,
        begin=-1 if skips else begin,
        packed=encoding in ("gzip", "gz"),
        placed=not notes,
        notes=notes,
    )


def meta_header(path: Path) -> GridHeader:
    """The header of a MetaImage file (.mha, or .mhd with its data beside it).

    Raises:
        UnreadableScan: as of `nrrd_header`.
    """
    fields = _meta_fields(path)
    count = (_integers(fields.get("ndims", "")) or [0])[0]
    sizes = _integers(fields.get("dimsize", ""))
    if count not in (2, 3, 4) or len(sizes) != count or min(sizes) < 1:
        raise UnreadableScan("its header does not agree with itself on the number of axes, or has more than four")
    spacing = _numbers(fields.get("elementspacing", fields.get("elementsize", ""))) or [1.0] * count
    turned = next((fields[name] for name in ("transformmatrix", "rotation", "orientation") if name in fields), None)
    matrix = _numbers(turned) if turned is not None else list(np.eye(count).ravel())
    origin = next((_numbers(fields[name]) for name in ("offset", "position", "origin") if name in fields), None)
    if len(spacing) != count or len(matrix) != count**2 or (origin is not None and len(origin) != count):
        raise UnreadableScan("its header does not agree with itself on the number of axes; export it again")
    rows = np.array(matrix).reshape(count, count)[: min(count, 3), : min(count, 3)]
    vectors = [tuple(float(each) for each in row * length) for row, length in zip(rows, spacing, strict=False)]
    kind = _META_TYPES.get(fields.get("elementtype", "").upper())
    if kind is None:
        raise UnreadableScan("its element type is none that is supported; save it as a whole or floating-point number")
    channels = (_integers(fields.get("elementnumberofchannels", "")) or [1])[0]
    if channels < 1 or (channels > 1 and count == 4):
        raise UnreadableScan("it has four axes and several numbers a voxel; expected one of both")
    packed = _yes(fields, "compresseddata")
    data = fields.get("elementdatafile", "")
    swapped = _yes(fields, "binarydatabyteordermsb") or _yes(fields, "elementbyteordermsb")
    stored = np.dtype(kind).newbyteorder(">" if swapped else "<")
    total = int(np.prod(sizes, dtype=object)) * channels * stored.itemsize
    if fields.get("binarydata", "true").lower()[:1] in ("f", "0", "n"):
        raise UnreadableScan("its voxels are written as text; save it as binary")
    held = _beside(path, None if data.upper() == "LOCAL" else data)
    begin = _end_of_header(path, b"ElementDataFile", b"\n") if held == path else 0
    begin = begin or (_integers(fields.get("headersize", "")) or [0])[0]
    if begin < -1 or (packed and begin < 0):
        raise UnreadableScan("its header does not say where its voxels begin; export it again")
    return GridHeader(
        sizes=_three(sizes[:3]),
        values=channels if channels > 1 else sizes[3] if count == 4 else 1,
        colour=channels == 3 and fields["elementtype"].upper() == "MET_UCHAR",
        affine=_affine(vectors, tuple(origin[:3]) if origin is not None else None, _LPS, 1.0),
        data=held,
        least=max(begin, 0) + (total // _BEST_RATIO if packed else total),
        size=total,
        begin=begin,
        packed=packed,
        stored=stored,
        fourth=count == 4,
        placed=turned is not None,
        notes={} if turned is not None else {"affine": _UNPLACED},
    )


def _yes(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "").lower()[:1] in ("t", "1", "y")


def _nrrd_fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in _lines(path)[1:]:
        if not line:
            return fields
        name, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in name:
            fields[name.strip().lower()] = value.strip()
    if path.suffix.lower() == ".nhdr" or "data file" in fields or "datafile" in fields:
        return fields
    raise UnreadableScan("its header does not end; copy or export it again")


def _meta_fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in _lines(path):
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            return fields
    raise UnreadableScan("its header does not name its data; copy or export it again")


def _end_of_header(path: Path, *marks: bytes) -> int:
    """How many bytes lie before the voxels in the header's own file: all up to the end of these, one after another."""
    with path.open("rb") as file:
        head = file.read(_LONGEST).replace(b"\r\n\r\n", b"\n\n")
    at = 0
    for mark in marks:
        found = head.find(mark, at)
        if found < 0:
            return 0
        at = found + len(mark)
    return at


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(_LONGEST)
    return [line.rstrip("\r") for line in head.decode("latin-1").split("\n")]


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split()]
    except ValueError:
        raise UnreadableScan("its header has a word where a whole number belongs; export it again") from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split()]
    except ValueError:
        raise UnreadableScan("its header has a word where a number belongs; export it again") from None


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """ "(1,0,0) none" as numbers."""
    words = text.replace("(", " (").replace(")", ") ").split(" ")
    joined = " ".join(word for word in words if word).replace(", ", ",").replace("( ", "(").replace(" )", ")")
    return [
        None if word.lower() == "none" else tuple(_numbers(word.strip("()").replace(",", " ")))
        for word in joined.split(" ")
        if word
    ]


def _affine(
    vectors: Sequence[tuple[float, ...]],
    origin: tuple[float, ...] | None,
    turn: NDArray[np.float64],
    scale: float,
) -> NDArray[np.float64]:
    """RAS+ mm from the steps along each axis; in two dimensions the third is at a right angle, 1 mm long."""
    affine = np.eye(4)
    for axis, vector in enumerate(vectors):
        if len(vector) not in (2, 3):
            raise UnreadableScan("its space has neither two nor three dimensions; export it again")
        affine[:3, axis] = (*vector, 0.0)[:3]
    if origin is not None:
        affine[:3, 3] = (*origin, 0.0, 0.0)[:3]
    if len(vectors) == 2:
        across = np.cross(affine[:3, 0], affine[:3, 1])
        length = float(np.linalg.norm(across))
        affine[:3, 2] = across / length if np.isfinite(length) and length > 0 else np.nan
    if not is_regular(affine):
        raise UnreadableScan("its directions or spacings are zero, singular or not finite; export it again")
    affine[:3] = turn @ affine[:3] * scale + 0.0
    return affine


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    width, height, depth = (*sizes, 1, 1)[:3]
    return width, height, depth


def _beside(path: Path, name: str | None) -> Path:
    """The file of the voxels, which must lie in the header's folder."""
    if not name:
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise UnreadableScan("its voxels lie in several files; save it as one")
    inner = Path(name.replace("\\", "/"))
    data = path.parent / inner
    folder = os.path.realpath(path.parent)
    if (
        inner.is_absolute()
        or ".." in inner.parts
        or ":" in name
        or not os.path.realpath(data).startswith(
            os.path.join(folder, "")  # noqa: PTH118  (with the separator at its end)
        )
    ):
        raise UnreadableScan("its data file leads out of its folder; keep both together")
    if not data.is_file():
        raise UnreadableScan("its data file is not beside it; copy both together")
    return data

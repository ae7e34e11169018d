"""Voxels of NRRD files, for masks: the file's header is believed only as far as the file itself goes."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.values.geometry import Geometry

MAGIC = b"NRRD000"
_HEADER_LIMIT = 2**16
# To RAS+, by the first letters of the space's axes.
_SPACES = {
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
}
_GZIP = ("gzip", "gz")
_TYPES = {
    np.int8: ("signed char", "int8", "int8_t"),
    np.uint8: ("uchar", "unsigned char", "uint8", "uint8_t"),
    np.int16: ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    np.uint16: ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    np.int32: ("int", "signed int", "int32", "int32_t"),
    np.uint32: ("uint", "unsigned int", "uint32", "uint32_t"),
    np.float32: ("float",),
    np.float64: ("double",),
}


def read_nrrd(path: Path, max_voxels: int) -> tuple[NDArray[Any], Geometry]:
    """The voxels (D, H, W) of a NRRD file of one volume whose data lie in the file, raw or gzipped, and their grid.

    Raises:
        UnreadableScan: it is of another kind, truncated, too large, or does not say where its voxels lie; the reason
            alone.
    """
    import nrrd

    with path.open("rb") as file:
        head = file.read(_HEADER_LIMIT)
        if b"\n\n" not in head:
            raise UnreadableScan("its header does not end; expected a NRRD file with its data in it")
        file.seek(0)
        header = nrrd.read_header(file)
        start = file.tell()
        if "data file" in header or "datafile" in header:
            raise UnreadableScan("its data lie in another file; save it as one .nrrd file")
        shape = tuple(int(length) for length in header["sizes"])
        if len(shape) != 3 or min(shape) < 1:
            raise UnreadableScan(f"its sizes are {shape}; expected three axes of at least one voxel")
        voxels = shape[0] * shape[1] * shape[2]
        if voxels > max_voxels:
            raise UnreadableScan(f"its header claims {voxels} voxels, over the limit of {max_voxels}")
        kind = _type_of(header)
        needed = voxels * kind.itemsize
        file.seek(start)
        encoding = str(header["encoding"]).lower()
        if encoding == "raw":
            content = file.read(needed)
        elif encoding in _GZIP:
            content = _inflated(file, needed)
        else:
            raise UnreadableScan(f"its encoding is {encoding[:20]}; expected raw or gzip")
    if len(content) < needed:
        raise UnreadableScan(f"it is truncated: its header claims {needed} bytes; copy or export it again")
    values = np.frombuffer(content, kind).reshape(shape, order="F").T
    depth, height, width = values.shape
    return values.astype(kind.newbyteorder("=")), Geometry((depth, height, width), _affine(header))


def _inflated(file: Any, needed: int) -> bytes:
    """As much as is needed and no more, whatever the stream goes on to hold."""
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    found = bytearray()
    while len(found) < needed and not inflate.eof:
        chunk = inflate.unconsumed_tail or file.read(2**20)
        if not chunk:
            break
        found += inflate.decompress(chunk, needed - len(found))
    return bytes(found)


def _type_of(header: Any) -> np.dtype[Any]:
    """The type of a voxel, by the names that the format knows (teem's nrrd/format.html)."""
    name = " ".join(str(header["type"]).lower().split())
    found = next((np.dtype(kind) for kind, names in _TYPES.items() if name in names), None)
    if found is None:
        raise UnreadableScan("its voxels are no numbers that are known; expected one real number each")
    return found.newbyteorder(">" if str(header.get("endian", "little")).lower() == "big" else "<")


def _affine(header: Any) -> NDArray[np.float64]:
    flips = _SPACES.get(str(header.get("space", "")).lower())
    directions, origin = header.get("space directions"), header.get("space origin")
    if flips is None or directions is None or origin is None:
        raise UnreadableScan("it does not say where its voxels lie; expected space, space directions and space origin")
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, np.float64).T
    affine[:3, 3] = np.asarray(origin, np.float64)
    affine[:3] *= np.array(flips)[:, None]
    if not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise UnreadableScan("its axes are singular or not finite; expected a regular grid")
    return affine

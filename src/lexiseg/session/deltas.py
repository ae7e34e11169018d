"""Changes of masks in few bytes: what differs in one plane, as bits in a box."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import PlaneAxes
from lexiseg.values.masks import box_of

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Bits:
    """A mask of a plane, bool, as its box and the bits in it.

    Attributes:
        box: x0 y0 x1 y1 in pixels of the plane, end-exclusive; all 0 of an empty mask.
        packed: `numpy.packbits` of the box, row by row, the first pixel in the highest bit.
    """

    box: Box
    packed: bytes

    @classmethod
    def of(cls, mask: BoolArray) -> Self:
        """The bits of a mask (h, w)."""
        x0, y0, x1, y1 = box = box_of(mask)
        return cls(box, np.packbits(mask[y0:y1, x0:x1]).tobytes())

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the box."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0

    def inside(self) -> BoolArray:
        """The pixels of the box, bool (rows, columns)."""
        rows, columns = self.size
        flat = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=rows * columns)
        found: BoolArray = flat.reshape(rows, columns).astype(np.bool_)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values: "box", and "bits" as base64."""
        return {"box": list(self.box), "bits": base64.b64encode(self.packed).decode()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        x0, y0, x1, y1 = (int(edge) for edge in record["box"])
        return cls((x0, y0, x1, y1), base64.b64decode(record["bits"]))


@dataclass(frozen=True)
class Delta:
    """Pixels of one plane that change sides; doing it twice undoes it.

    Attributes:
        axis: the name of the planes' direction.
        plane: the plane's index.
        bits: the pixels that differ.
    """

    axis: str
    plane: int
    bits: Bits

    @classmethod
    def between(cls, axis: str, plane: int, before: BoolArray, after: BoolArray) -> Self | None:
        """What makes `after` of `before`, both bool (h, w); None where they are equal."""
        differing = before ^ after
        return cls(axis, plane, Bits.of(differing)) if differing.any() else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"axis": self.axis, "plane": self.plane, **self.bits.as_dict()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        return cls(str(record["axis"]), int(record["plane"]), Bits.from_dict(record))


def squeeze(mask: BoolArray) -> str:
    """A mask of any shape as text, small: compressed bits in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 1)).decode()


def unsqueeze(text: str, shape: tuple[int, ...]) -> BoolArray:
    """The inverse of `squeeze`.

    Raises:
        ValueError: it is no such text.
    """
    count = int(np.prod(shape))
    try:
        # One byte more than is right, so that more than that is seen.
        raw = zlib.decompressobj().decompress(base64.b64decode(text), -(-count // 8) + 1)
    except zlib.error as error:
        raise ValueError("the bits are damaged") from error
    if len(raw) != -(-count // 8):
        raise ValueError(f"there are {len(raw)} bytes of bits, expected {-(-count // 8)}")
    found: BoolArray = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).reshape(shape).astype(np.bool_)
    return found


class Grid:
    """A target's voxels, looked at from every side, with the number of them in each plane.

    Args:
        voxels: bool (D, H, W); of an image (1, H, W). It is changed in place.
        axes: the directions of its planes, by name.
    """

    def __init__(self, voxels: BoolArray, axes: Mapping[str, PlaneAxes]) -> None:
        self.voxels, self._axes = voxels, axes
        self._counts = [voxels.sum(axis=other, dtype=np.int64) for other in ((1, 2), (0, 2), (0, 1))]

    def plane(self, axis: str, index: int) -> BoolArray:
        """A view (h, w) of one plane."""
        found: BoolArray = self._axes[axis].cut(self.voxels)[index]
        return found

    def flip(self, delta: Delta) -> None:
        """Let a delta's pixels change sides."""
        x0, y0, x1, y1 = delta.bits.box
        changing = delta.bits.inside()
        part = self.plane(delta.axis, delta.plane)[y0:y1, x0:x1]
        gained = np.where(changing, np.where(part, -1, 1), 0)
        part ^= changing
        axes = self._axes[delta.axis]
        self._add(axes, 0, slice(delta.plane, delta.plane + 1), gained.sum(keepdims=True)[0])
        self._add(axes, 1, slice(y0, y1), gained.sum(axis=1))
        self._add(axes, 2, slice(x0, x1), gained.sum(axis=0))

    def filled(self, axis: str) -> list[int]:
        """Indices of the planes that hold any of it."""
        axes = self._axes[axis]
        return [int(index) for index in np.flatnonzero(self._seen(axes, 0))]

    @property
    def by_slice(self) -> NDArray[np.int64]:
        """How many voxels there are in each slice of the array, int64 (D,)."""
        counts: NDArray[np.int64] = self._counts[0].copy()
        return counts

    @property
    def total(self) -> int:
        """How many voxels there are."""
        return int(self._counts[0].sum())

    def _seen(self, axes: PlaneAxes, which: int) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = self._counts[axes.axes[which]]
        return counts[::-1] if axes.flips[which] else counts

    def _add(self, axes: PlaneAxes, which: int, where: slice, gained: NDArray[np.int64]) -> None:
        self._seen(axes, which)[where] += gained

"""What is kept of a volume's slices while the others are worked on: bits, not maps.

The same bytes are kept in memory and in the journal of an interrupted run, so that a resumed run reads what an
uninterrupted one would have.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lexiseg.pipelines.results import MaskEstimate, SliceResult
from lexiseg.values.arrays import FloatArray
from lexiseg.values.masks import Prompts, box_of

_MOST = 1 << 31  # bytes of a slice that are unpacked at most: far above any scan's
_ARRAYS: Mapping[str, Any] = {
    "bits": np.uint8,
    "probability": np.uint8,
    "weights": np.float32,
    "boxes": np.float32,
    "points": np.float32,
    "labels": np.int64,
}
_AROUND = 0.25  # how much of a mask's box is kept of its probability on every side


class Journal(Protocol):
    """Where finished slices of a volume are written down, so that a killed run can go on from there."""

    def recall(self) -> Mapping[int, tuple[bytes, ...]]:
        """What an earlier run wrote, by plane: for each phrase a `pack`; {} where there is nothing that fits."""

    def keep(self, index: int, slices: tuple[bytes, ...]) -> None:
        """Write a plane down, now or a little later."""


def pack(of: SliceResult, *, weights: bool, probability: bool) -> bytes:
    """A slice without its stages, as bytes.

    Args:
        of: the slice.
        weights: keep what tells overlapping phrases apart; without it `unpack` gives ones.
        probability: keep the probability around the mask, in 255 steps.
    """
    mask = of.estimate.mask
    box = box_of(mask)
    rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
    around = _grown(rows, mask.shape[0]), _grown(columns, mask.shape[1])
    found = of.estimate.probability
    arrays: dict[str, NDArray[Any]] = {
        "bits": np.packbits(mask[rows, columns]),
        "probability": np.zeros(0, np.uint8),
        "weights": of.weights.astype(np.float32) if weights else np.zeros(0, np.float32),
        "boxes": of.prompts.boxes,
        "points": of.prompts.points,
        "labels": of.prompts.labels,
    }
    if probability and found is not None:
        arrays["probability"] = np.rint(np.clip(found[around], 0, 1) * 255).astype(np.uint8)
    head = json.dumps(
        {
            "shape": mask.shape,
            "box": _edges(rows, columns),
            "around": _edges(*around) if arrays["probability"].size else None,
            "weighed": weights,
            "iou": of.estimate.iou,
            "presence": of.presence,
            "agreement": of.agreement,
            "held": of.held,
            "kinds": dict(of.kinds),
            "sizes": {name: array.shape for name, array in arrays.items()},
        }
    ).encode()
    body = b"".join(np.ascontiguousarray(arrays[name], _ARRAYS[name]).tobytes() for name in _ARRAYS)
    return zlib.compress(len(head).to_bytes(4, "little") + head + body, 1)


def unpack(packed: bytes) -> SliceResult:
    """The slice of a `pack`.

    Raises:
        ValueError: the bytes are none of `pack`.
    """
    try:
        return _unpack(packed)
    except (zlib.error, KeyError, TypeError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"these bytes are no packed slice ({type(error).__name__})") from error


def _unpack(packed: bytes) -> SliceResult:
    opened = zlib.decompressobj()
    content = opened.decompress(packed, _MOST)
    length = int.from_bytes(content[:4], "little")
    head = json.loads(content[4 : 4 + length])
    arrays, at = {}, 4 + length
    for name, kind in _ARRAYS.items():
        shape = tuple(int(side) for side in head["sizes"][name])
        count = math.prod(shape)
        arrays[name] = np.frombuffer(content, kind, count, at).reshape(shape)
        at += count * np.dtype(kind).itemsize
    if at != len(content) or not opened.eof:
        raise ValueError("these bytes are no packed slice (their length)")
    height, width = (int(side) for side in head["shape"])
    rows, columns = _slices(head["box"])
    inside = (rows.stop - rows.start, columns.stop - columns.start)
    mask = np.zeros((height, width), np.bool_)
    mask[rows, columns] = np.unpackbits(arrays["bits"], count=math.prod(inside)).reshape(inside).astype(np.bool_)
    probability: FloatArray | None = None
    if head["around"] is not None:
        probability = np.zeros((height, width), np.float32)
        probability[_slices(head["around"])] = arrays["probability"] / np.float32(255)
    weights = arrays["weights"] if head["weighed"] else np.ones(int(mask.sum()), np.float32)
    return SliceResult(
        prompts=Prompts(arrays["boxes"], arrays["points"], arrays["labels"]),
        estimate=MaskEstimate(mask, float(head["iou"]), probability),
        presence=float(head["presence"]),
        weights=weights,
        agreement=float(head["agreement"]),
        held=float(head.get("held", 1.0)),
        kinds=head.get("kinds", {}),
    )


class PackedSlices(Sequence[SliceResult]):
    """One phrase's slices, each unpacked when it is asked for.

    Args:
        packed: of each slice.
    """

    def __init__(self, packed: Sequence[bytes]) -> None:
        self._packed = tuple(packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        """The slice of an index; of a slice, a list."""
        found = self._packed[index]
        return [unpack(each) for each in found] if isinstance(index, slice) else unpack(found)


def _grown(side: slice, length: int) -> slice:
    """A side of a mask's box with what is kept around it; nothing stays nothing."""
    more = math.ceil(_AROUND * (side.stop - side.start))
    return slice(max(0, side.start - more), min(length, side.stop + more))


def _edges(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    return rows.start, rows.stop, columns.start, columns.stop


def _slices(edges: Sequence[int]) -> tuple[slice, slice]:
    top, bottom, left, right = (int(edge) for edge in edges)
    return slice(top, bottom), slice(left, right)

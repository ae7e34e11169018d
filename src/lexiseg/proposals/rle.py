"""COCO's run-length encoding of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lexiseg.scans.scan import BoolArray

_BITS = 5
_MORE, _SIGN, _LOW = 0x20, 0x10, 0x1F
_FIRST = 48  # "0", the character of the digit 0


def rle_encode(mask: BoolArray) -> str:
    """A mask as COCO's compressed string, which pycocotools reads as the `counts` of an RLE.

    The mask is read column by column as runs of background and foreground in turn, background first.  From
    the fourth on, a run is written as its difference to the last of its own kind.  A number is cut into
    digits of 5 bits, the lowest first, until the rest is the sign alone; a digit is the character "0" + digit
    (+ 32 if more follow).

    Args:
        mask: bool (H, W).
    """
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
    if flat.size and flat[0]:
        runs = np.concatenate([[0], runs])
    rest = runs.astype(np.int64)
    rest[3:] -= runs[1:-2]
    digits, written = [], []
    open_ = np.ones(len(rest), np.bool_)
    while open_.any():
        low = rest & _LOW
        rest = rest >> _BITS
        more = rest != np.where(low & _SIGN, -1, 0)
        digits.append(low + np.where(more, _MORE, 0) + _FIRST)
        written.append(open_)
        open_ = open_ & more
    order = np.stack(written, axis=1)
    return np.stack(digits, axis=1)[order].astype(np.uint8).tobytes().decode("ascii")


def rle_decode(counts: str, shape: tuple[int, int]) -> BoolArray:
    """The mask of a COCO RLE.

    Args:
        counts: the compressed string.
        shape: (H, W), COCO's `size`.

    Returns:
        bool (H, W).

    Raises:
        ValueError: the string is no RLE of a mask of that size.
    """
    runs = _runs(counts)
    if (runs < 0).any() or runs.sum() != shape[0] * shape[1]:
        raise ValueError(f"got an RLE of {int(runs.sum())} pixels, expected {shape[0]} x {shape[1]}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(shape, order="F"))


def _runs(counts: str) -> NDArray[np.int64]:
    try:
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError as error:
        raise ValueError("got an RLE with characters that COCO does not use") from error
    ends = np.flatnonzero((codes & _MORE) == 0)
    if (codes < 0).any() or (codes > (_MORE | _LOW)).any() or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("got an RLE with characters that COCO does not use, or one that was cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 12:
        raise ValueError("got an RLE with a number of more than 60 bits")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & _LOW) << (_BITS * place), starts)
    runs = np.where(codes[ends] & _SIGN, runs - (np.int64(1) << (_BITS * lengths)), runs)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return np.asarray(runs, np.int64)

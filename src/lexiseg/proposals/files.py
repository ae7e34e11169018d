"""Proposals as plain values and JSON files, their masks as COCO's run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write
from lexiseg.proposals.candidates import Box
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import box_of

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


VERSION = 1


def write_proposals(path: str | Path, proposals: Proposals, *, image_id: str) -> Path:
    """Write proposals as JSON, each as a COCO annotation with the fields of SAM's own generator, in one step.

    Boxes are COCO's ``[x, y, width, height]``; `point_coords` and boxes are in scan pixels, a pixel's centre
    at +0.5.

    Args:
        path: the file.
        proposals: of one image, or of one slice of a volume.
        image_id: what it is called.

    Returns:
        `path`, as a Path.

    Raises:
        UnwritableResult: the file system refused.
    """
    content = json.dumps(proposals_record(proposals, image_id=image_id), allow_nan=False) + "\n"
    return atomic_write(path, lambda file: file.write(content.encode()))


def proposals_record(proposals: Proposals, *, image_id: str) -> dict[str, Any]:
    """What `write_proposals` writes, as plain values: for files that hold several slices."""
    height, width = proposals.shape
    return {
        "format": "lexiseg proposals",
        "version": VERSION,
        "image_id": image_id,
        "height": height,
        "width": width,
        "proposals": [_annotation(each) for each in proposals],
    }


def read_proposals(path: str | Path) -> Proposals:
    """Read what `write_proposals` wrote: equal masks, boxes and scores.

    Raises:
        UsageError: the file is missing, damaged, or of a later version.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON; expected a file of proposals") from error
    return proposals_from_record(record, source=str(path))


def proposals_from_record(record: Any, *, source: str = "the record") -> Proposals:
    """What `proposals_record` made of them.

    Args:
        record: the plain values.
        source: where they come from, for the error's text.

    Raises:
        UsageError: a field is missing or has an impossible value, or the version is later than ours.
    """
    try:
        if record["version"] != VERSION:
            raise UsageError(f"{source} is of version {record['version']}, expected {VERSION}; write it again")
        shape = (int(record["height"]), int(record["width"]))
        return Proposals(shape, tuple(_proposal(each, shape) for each in record["proposals"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{source} is no file of proposals, or is damaged ({error})") from error


def _annotation(proposal: Proposal) -> dict[str, Any]:
    return {
        "segmentation": {"size": list(proposal.mask.shape), "counts": rle_encode(proposal.mask)},
        "bbox": _to_coco(proposal.box),
        "area": proposal.area,
        "predicted_iou": proposal.iou,
        "stability_score": proposal.stability,
        "point_coords": [list(proposal.point)],
        "crop_box": _to_coco(proposal.crop),
    }


def _proposal(record: dict[str, Any], shape: tuple[int, int]) -> Proposal:
    mask = rle_decode(record["segmentation"]["counts"], shape)
    if not mask.any():
        raise ValueError("an empty mask")
    ((x, y),) = record["point_coords"]
    left, top, width, height = record["crop_box"]
    return Proposal(
        mask=mask,
        box=box_of(mask),
        iou=float(record["predicted_iou"]),
        stability=float(record["stability_score"]),
        point=(float(x), float(y)),
        crop=(left, top, left + width, top + height),
    )


def _to_coco(box: Box) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]

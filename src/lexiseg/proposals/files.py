"""Proposals on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write
from lexiseg.proposals.grid import Box
from lexiseg.proposals.proposal import Proposal, Proposals, box_of
from lexiseg.proposals.rle import rle_decode, rle_encode

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
            raise UsageError(
                f"{source} is of version {record['version']}, expected {VERSION}; write it again"
            )
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

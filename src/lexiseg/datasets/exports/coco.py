"""COCO's annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.datasets.exports.pixels import read_pixels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.files import atomic_write
from lexiseg.scans import BoolArray

ANNOTATIONS = "annotations.json"


def export_coco(rows: Sequence[ManifestRow], names: Sequence[str], folder: Path) -> Path:
    """Write annotations.json, with one annotation for each target in each scan.

    Masks are run lengths, uncompressed: {"counts": [...], "size": [H, W]}, which pycocotools reads. file_name
    is relative to `folder`. Source of the layout: the data format of cocodataset.org.

    Args:
        rows: images with masks; see `read_labels`.
        names: of the targets; the k-th is the category k.
        folder: where to.

    Returns:
        The file.

    Raises:
        UnreadableScan: a scan or mask cannot be read.
        UnwritableResult: the file system refused.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        labels = read_pixels(row, targets=len(names)).labels
        height, width = labels.shape
        file_name = Path(os.path.relpath(row.image, folder)).as_posix()
        images.append({"id": number, "file_name": file_name, "height": height, "width": width})
        for category in range(1, len(names) + 1):
            mask = labels == category
            if mask.any():
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                    | _shape_of(mask)
                )
    content = {
        "info": {"description": "masks by lexiseg"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
    }
    return atomic_write(folder / ANNOTATIONS, lambda file: file.write((json.dumps(content) + "\n").encode()))


def run_lengths(mask: BoolArray) -> list[int]:
    """Lengths of runs down the columns, beginning with one of background, which may be 0."""
    return list(_runs(mask.ravel(order="F")))


def _runs(flat: BoolArray) -> Iterator[int]:
    edges = np.flatnonzero(np.diff(flat)) + 1
    ends = [0, *map(int, edges), len(flat)]
    if len(flat) and flat[0]:
        yield 0
    for start, end in pairwise(ends):
        yield end - start


def _shape_of(mask: BoolArray) -> dict[str, Any]:
    y, x = np.nonzero(mask)
    return {
        "segmentation": {"counts": run_lengths(mask), "size": list(mask.shape)},
        "area": int(mask.sum()),
        "bbox": [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1],
        "iscrowd": 0,
    }

"""nnU-Net's raw layout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.datasets.label_maps import read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.io.read import read_scan
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Volume


@dataclass(frozen=True, eq=False)
class Pixels:
    """A scan of 8 bits with its labels.

    Attributes:
        image: uint8 (H, W) or (H, W, 3).
        labels: uint8 (H, W).
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_pixels(row: ManifestRow, *, targets: int) -> Pixels:
    """Read a row's scan and mask.

    Raises:
        UnreadableScan: one of them cannot be read, or the scan is a volume.
    """
    if row.error or row.mask is None:
        raise UnreadableScan(row.error or f"{printable(row.id)}: it has no mask")
    scan = read_scan(row.image, id=row.id)
    if isinstance(scan, Volume):
        raise UnreadableScan(f"{printable(row.id)}: it is a volume; expected an image")
    image = np.rint(scan.pixels * 255).astype(np.uint8)
    return Pixels(image, read_labels(row.mask, targets=targets, shape=scan.shape))


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
                    {"id": len(annotations) + 1, "image_id": number, "category_id": category} | _shape_of(mask)
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


DATASET = "Dataset501_lexiseg"
"""The folder's name; nnU-Net calls data sets by their number."""


def export_nnunet(rows: Sequence[ManifestRow], names: Sequence[str], folder: Path) -> Path:
    """Write imagesTr/ID_0000.png, labelsTr/ID.png, dataset.json and splits_final.json.

    Labels are 0 for the background and k for the k-th name. Grey scans have one channel; where any scan is
    coloured all have three, in one file, as nnU-Net's reader of PNG expects. splits_final.json holds the
    rows' column split as the one fold; nnU-Net looks for it in its preprocessed folder. Source of the layout:
    the nnU-Net v2 documentation, dataset_format.md.

    Args:
        rows: images with masks; see `read_labels`.
        names: of the targets.
        folder: gets a folder `DATASET`.

    Returns:
        That folder.

    Raises:
        UnreadableScan: a scan or mask cannot be read.
        UnwritableResult: the file system refused.
    """
    place = folder / DATASET
    pixels = [(row, read_pixels(row, targets=len(names))) for row in rows]
    colour = any(each.image.ndim == 3 for _, each in pixels)
    for row, each in pixels:
        image = each.image
        if colour and image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        _png(image, place / "imagesTr" / f"{safe_id(row.id)}_0000.png")
        _png(each.labels, place / "labelsTr" / f"{safe_id(row.id)}.png")
    channels = ("red", "green", "blue") if colour else ("grey",)
    _json(
        {
            "channel_names": {str(k): name for k, name in enumerate(channels)},
            "labels": {"background": 0, **{name: k for k, name in enumerate(names, start=1)}},
            "numTraining": len(rows),
            "file_ending": ".png",
        },
        place / "dataset.json",
    )
    parts = {
        part: [safe_id(row.id) for row in rows if row.extra.get("split", "train") == part] for part in ("train", "val")
    }
    _json([parts], place / "splits_final.json")
    return place


def _png(values: NDArray[np.uint8], path: Path) -> None:
    atomic_write(path, lambda file: Image.fromarray(values).save(file, format="PNG"))


def _json(content: Any, path: Path) -> None:
    atomic_write(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


EXPORTS: Mapping[str, Callable[[Sequence[ManifestRow], Sequence[str], Path], Path]] = {
    "nnunet": export_nnunet,
    "coco": export_coco,
}
"""Name -> function of (rows with masks, names of the targets, folder) that returns what it wrote."""

"""Scans with masks in other programs' layouts: nnU-Net's raw data sets, and COCO's annotations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.datasets.label_maps import laid_over, read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan, UnwritableResult
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.io.nifti import nifti_bytes
from lexiseg.io.read import read_scan
from lexiseg.values import scans
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import box_of

ANNOTATIONS = "annotations.json"
DATASET = "Dataset501_lexiseg"
"""The folder of images; nnU-Net calls data sets by their number."""
VOLUMES = "Dataset502_lexiseg_volumes"
"""The folder of volumes, which have another file ending."""
EXPORT_NAMES = frozenset((ANNOTATIONS, DATASET, VOLUMES))
Own = Callable[[ManifestRow], Mapping[int, BoolArray] | None]
"""Each target's own mask of a row, which may overlap; None where the row's mask says all that is known."""


@dataclass(frozen=True, eq=False)
class Example:
    """A scan with the masks of its targets.

    Attributes:
        scan: it; its id names the files.
        file: where it lies.
        masks: bool, of the scan's shape, by the number of the target, from 1; they may overlap.
        split: "train" or "val".
    """

    scan: scans.Scan
    file: Path
    masks: Mapping[int, BoolArray]
    split: str = "train"

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The masks as one label map, the smaller ones over the larger ones."""
        if not self.masks:
            return np.zeros(self.scan.shape, np.uint8)
        numbers = np.array([0, *self.masks], np.uint8)
        found: NDArray[np.uint8] = numbers[laid_over(list(self.masks.values()))]
        return found


def example_of(row: ManifestRow, *, targets: int, own: Own | None = None) -> Example:
    """Read a row's scan and mask, or what `own` has in the mask's place.

    Raises:
        UnreadableScan: one of them cannot be read, or the scan is a volume.
    """
    if row.error or row.mask is None:
        raise UnreadableScan(row.error or f"{printable(row.id)}: it has no mask")
    scan = read_scan(row.image, id=row.id)
    if isinstance(scan, scans.Volume):
        raise UnreadableScan(f"{printable(row.id)}: it is a volume; expected an image")
    masks = own(row) if own is not None else None
    if masks is None:
        labels = read_labels(row.mask, targets=targets, shape=scan.shape)
        masks = {number: labels == number for number in range(1, targets + 1)}
    return Example(scan, row.image, masks, row.extra.get("split", "train"))


def export_coco(rows: Sequence[ManifestRow], names: Sequence[str], folder: Path, own: Own | None = None) -> Path:
    """`write_coco` of a manifest's rows.

    Args:
        rows: images with masks; see `read_labels`.
        names: of the targets; the k-th is the category k.
        folder: where to.
        own: see `Own`.

    Raises:
        UnreadableScan: a scan or mask cannot be read.
        UnwritableResult: the file system refused.
    """
    return write_coco((example_of(row, targets=len(names), own=own) for row in rows), names, folder)


def write_coco(examples: Iterable[Example], names: Sequence[str], folder: Path, *, beside: Path | None = None) -> Path:
    """Write annotations.json, with one annotation for each target in each scan.

    Masks are run lengths, uncompressed: {"counts": [...], "size": [H, W]}, which pycocotools reads. file_name
    is relative to the folder. Source of the layout: the data format of cocodataset.org.

    Args:
        examples: images.
        names: of the targets; the k-th is the category k.
        folder: where to.
        beside: the folder that file_name is relative to; `folder` when None.

    Returns:
        The file.

    Raises:
        UnwritableResult: the file system refused.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, example in enumerate(examples, start=1):
        height, width = example.scan.shape[-2:]
        file_name = Path(os.path.relpath(example.file, beside or folder)).as_posix()
        images.append({"id": number, "file_name": file_name, "height": height, "width": width})
        for category, mask in sorted(example.masks.items()):
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
    x0, y0, x1, y1 = box_of(mask)
    return {
        "segmentation": {"counts": run_lengths(mask), "size": list(mask.shape)},
        "area": int(mask.sum()),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": 0,
    }


def export_nnunet(rows: Sequence[ManifestRow], names: Sequence[str], folder: Path) -> Path:
    """`write_nnunet` of a manifest's rows, with splits_final.json; what an earlier export had besides goes.

    splits_final.json holds the rows' column split as the one fold; nnU-Net looks for it in its preprocessed folder.

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
    write_nnunet((example_of(row, targets=len(names)) for row in rows), names, place)
    for kind, end in (("imagesTr", "_0000.png"), ("labelsTr", ".png")):
        wanted = {f"{safe_id(row.id)}{end}" for row in rows}
        for path in (place / kind).glob(f"*{end}"):
            if path.name not in wanted:
                _remove(path)
    parts = {
        part: [safe_id(row.id) for row in rows if row.extra.get("split", "train") == part] for part in ("train", "val")
    }
    _json([parts], place / "splits_final.json")
    return place


def write_nnunet(examples: Iterable[Example], names: Sequence[str], place: Path) -> Path:
    """Write imagesTr/ID_0000.png, labelsTr/ID.png and dataset.json; of volumes .nii.gz in their own units.

    Labels are 0 for the background and k for the k-th name. Grey images have one channel; where any is
    coloured all have three, in one file, as nnU-Net's reader of PNG expects. Source of the layout:
    the nnU-Net v2 documentation, dataset_format.md.

    Args:
        examples: images alone, or volumes alone.
        names: of the targets.
        place: the data set's folder.

    Returns:
        The folder.

    Raises:
        UnwritableResult: the file system refused.
    """
    grey: list[Path] = []
    count, ending, colour = 0, ".png", False
    for example in examples:
        count += 1
        scan, name = example.scan, safe_id(example.scan.id)
        if isinstance(scan, scans.Volume):
            ending = ".nii.gz"
            image, labels = nifti_bytes(_stored(scan.values), scan), nifti_bytes(example.labels, scan)
            _bytes(image, place / "imagesTr" / f"{name}_0000{ending}")
            _bytes(labels, place / "labelsTr" / f"{name}{ending}")
            continue
        pixels = np.rint(scan.pixels * 255).astype(np.uint8)
        path = place / "imagesTr" / f"{name}_0000.png"
        _png(pixels, path)
        _png(example.labels, place / "labelsTr" / f"{name}.png")
        if pixels.ndim == 3:
            colour = True
        else:
            grey.append(path)
    for path in grey if colour else ():
        with Image.open(path) as picture:
            _png(np.asarray(picture.convert("RGB")), path)
    channels = ("red", "green", "blue") if colour else ("grey",)
    _json(
        {
            "channel_names": {str(k): name for k, name in enumerate(channels)},
            "labels": {"background": 0, **{name: k for k, name in enumerate(names, start=1)}},
            "numTraining": count,
            "file_ending": ending,
        },
        place / "dataset.json",
    )
    return place


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableResult(f"{path}: it cannot be removed ({error.strerror})") from error


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Values in a type that NIfTI has and nnU-Net reads."""
    if values.dtype in (np.uint8, np.int16, np.int32, np.float32):
        return values
    return values.astype(np.uint8 if values.dtype == np.bool_ else np.float32)


def _bytes(content: bytes, path: Path) -> None:
    atomic_write(path, lambda file: file.write(content))


def _png(values: NDArray[np.uint8], path: Path) -> None:
    atomic_write(path, lambda file: Image.fromarray(values).save(file, format="PNG"))


def _json(content: Any, path: Path) -> None:
    atomic_write(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


EXPORTS: Mapping[str, Callable[[Sequence[ManifestRow], Sequence[str], Path], Path]] = {
    "nnunet": export_nnunet,
    "coco": export_coco,
}
"""Name -> function of (rows with masks, names of the targets, folder) that returns what it wrote."""

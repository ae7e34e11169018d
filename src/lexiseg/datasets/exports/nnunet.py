"""nnU-Net's raw layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.datasets.exports.pixels import read_pixels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.files import atomic_write
from lexiseg.scans import safe_id

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
        part: [safe_id(row.id) for row in rows if row.extra.get("split", "train") == part]
        for part in ("train", "val")
    }
    _json([parts], place / "splits_final.json")
    return place


def _png(values: NDArray[np.uint8], path: Path) -> None:
    atomic_write(path, lambda file: Image.fromarray(values).save(file, format="PNG"))


def _json(content: Any, path: Path) -> None:
    atomic_write(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))

"""A row of a manifest as pixels and labels, for exports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexiseg.datasets.label_maps import read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.scans import printable, read_scan


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
    if scan.volume:
        raise UnreadableScan(f"{printable(row.id)}: it is a volume; expected an image")
    image = np.rint(scan.pixels * 255).astype(np.uint8)
    return Pixels(image, read_labels(row.mask, targets=targets, shape=scan.shape))

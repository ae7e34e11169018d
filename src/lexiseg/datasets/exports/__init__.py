"""Sets of scans and masks in the layouts that other tools train on: nnU-Net raw and COCO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lexiseg.datasets.exports.coco import export_coco
from lexiseg.datasets.exports.nnunet import export_nnunet
from lexiseg.datasets.manifest import ManifestRow

EXPORTS: Mapping[str, Callable[[Sequence[ManifestRow], Sequence[str], Path], Path]] = {
    "nnunet": export_nnunet,
    "coco": export_coco,
}
"""Name -> function of (rows with masks, names of the targets, folder) that returns what it wrote."""

__all__ = ["EXPORTS", "export_coco", "export_nnunet"]

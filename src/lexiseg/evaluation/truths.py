"""What a manifest knows of a scan: its true mask, true boxes, or that the target is absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.metrics.localisation import Box
from lexiseg.io.masks import read_stored
from lexiseg.io.names import IMAGE_SUFFIXES, scan_suffix
from lexiseg.io.read import read_scan
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of a scan: a mask, boxes, or the knowledge that there is nothing to find.

    Attributes:
        shape: the grid, (H, W) or (D, H, W).
        present: whether there is anything to find.
        file: what the grid was read from.
        mask: bool, of that shape; None where there is none.
        boxes: x0 y0 x1 y1 in pixels, end-exclusive; none where the target is absent; None where unknown.
        spacing: mm along each axis; None where no file says.
        geometry: where a volume lies; None for images.
    """

    shape: tuple[int, ...]
    present: bool
    file: Path
    mask: BoolArray | None = None
    boxes: tuple[Box, ...] | None = None
    spacing: tuple[float, ...] | None = None
    geometry: Geometry | None = None


def read_truth(row: ManifestRow, *, has_boxes: bool = False, absent: Sequence[str] = ()) -> Truth:
    """Read a manifest row's truth: its mask, else its boxes, else that its label means absence.

    Spacing comes from a NIfTI mask, or from the scan where that is DICOM or NIfTI; plain images have none.

    Args:
        row: of the manifest.
        has_boxes: whether the manifest has boxes at all, so that an empty mask is known to have none.
        absent: labels of scans that hold no target.

    Raises:
        UnreadableScan: the row is unusable or says nothing, or a file cannot be read; one line.
    """
    if row.error:
        raise UnreadableScan(row.error)
    known_absent = row.label in absent and row.label != ""
    if row.mask is None:
        if not row.boxes and not known_absent:
            raise UnreadableScan("the manifest has neither a mask nor a box of it; nothing to compare with")
        scan = read_scan(row.image)
        return Truth(
            shape=scan.shape,
            present=bool(row.boxes),
            file=row.image,
            boxes=row.boxes if isinstance(scan, Image) else None,
            spacing=scan.spacing,
            geometry=scan.geometry if isinstance(scan, Volume) else None,
        )
    stored = read_stored(row.mask)
    mask = stored.inside()
    spacing = stored.spacing
    if stored.geometry is None and scan_suffix(row.image) not in IMAGE_SUFFIXES and row.image.is_file():
        scan = read_scan(row.image)
        if scan.shape != mask.shape:
            raise UnreadableScan(f"the true mask has shape {mask.shape}, its scan {scan.shape}; expected the same")
        spacing = scan.spacing
    present = bool(mask.any())
    boxes = row.boxes or (() if has_boxes and not present else None)
    return Truth(
        shape=mask.shape,
        present=present,
        file=row.mask,
        mask=mask,
        boxes=boxes if mask.ndim == 2 else None,
        spacing=spacing,
        geometry=stored.geometry,
    )

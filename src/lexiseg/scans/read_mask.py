"""True masks, and masks of earlier runs, on the grid of their scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lexiseg.errors import UnreadableScan
from lexiseg.scans.nifti_grid import NiftiGrid
from lexiseg.scans.read import MAX_PIXELS, MAX_VOXELS, reading
from lexiseg.scans.scan import BoolArray, Scan
from lexiseg.scans.stored import read_stored

SAME_PLACE_MM = 0.01
"""Grids whose corners lie no further apart than this are one: affines are stored in single precision."""


def read_mask(
    path: str | Path,
    scan: Scan | None = None,
    *,
    label: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_voxels: int = MAX_VOXELS,
) -> BoolArray:
    """Read a mask from an image file or NIfTI; unlike a scan, it may well be empty.

    Inside is every pixel above 0, in any channel (of JPEG, which blurs: above half its range). An image's
    EXIF orientation is applied as for scans, transparency is not looked at. A NIfTI mask is cut into slices
    as its scan was, or as `read_scan` would cut it.

    Args:
        path: the file.
        scan: the scan that the mask is of; when given, the grids must agree: for NIfTI the shape and, to
            0.01 mm at each corner, the place.
        label: only pixels of this value, for a label map; any value above 0 when None.
        max_pixels: as for `read_scan`.
        max_voxels: as for `read_scan`.

    Returns:
        bool (H, W), or (D, H, W) of NIfTI.

    Raises:
        UnreadableScan: as for `read_scan`, or the mask is not on the scan's grid.
    """
    path = Path(path)
    # A label map may have a palette: its indices are the labels.
    stored = read_stored(path, indices=label is not None, max_pixels=max_pixels, max_voxels=max_voxels)
    with reading(path):
        mask = stored.inside(label)
        if scan is not None and stored.grid is not None and isinstance(scan.grid, NiftiGrid):
            mask = _cut_as(scan.grid, stored.grid, mask)
        if scan is not None and mask.shape != scan.shape:
            raise UnreadableScan(f"its shape is {mask.shape}, its scan's is {scan.shape}; expected the same")
        return mask


def _cut_as(wanted: NiftiGrid, own: NiftiGrid, mask: BoolArray) -> BoolArray:
    """A volume's mask in the slices of its scan, which may have been cut along another plane."""
    solid, scan_solid = (tuple((*grid.shape, 1, 1)[:3]) for grid in (own, wanted))
    if solid != scan_solid:
        raise UnreadableScan(f"it has {solid} voxels, its scan has {scan_solid}; expected the same grid")
    distance = own.distance(wanted)
    # Not `distance > ...`: it is NaN where one of the affines is.
    if not distance <= SAME_PLACE_MM:
        raise UnreadableScan(f"it lies {distance:.3g} mm away from its scan; expected the same affine")
    return np.ascontiguousarray(wanted.to_slices(own.to_source(mask)))

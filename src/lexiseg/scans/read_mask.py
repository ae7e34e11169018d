"""True masks, and masks of earlier runs, on the grid of their scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lexiseg.errors import UnreadableScan
from lexiseg.scans.formats import image_format
from lexiseg.scans.images import open_image
from lexiseg.scans.nifti import NiftiReader, open_volume, voxels_of
from lexiseg.scans.nifti_grid import NiftiGrid, nifti_grid
from lexiseg.scans.read import MAX_PIXELS, MAX_VOXELS, reading, regular_head
from lexiseg.scans.scan import BoolArray, Scan

_SAME_PLACE_MM = 0.01


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
    with reading(path):
        head = regular_head(path)
        if image_format(head):
            mask = _of_image(path, label, max_pixels)
        elif NiftiReader().can_read(head, path):
            mask = _of_volume(path, label, max_voxels, scan.grid if scan else None)
        else:
            raise UnreadableScan("its content is no image and no NIfTI; expected a mask as PNG or NIfTI")
        if scan is not None and mask.shape != scan.shape:
            raise UnreadableScan(f"its shape is {mask.shape}, its scan's is {scan.shape}; expected the same")
        return mask


def _of_image(path: Path, label: int | None, max_pixels: int) -> BoolArray:
    with open_image(path, max_pixels) as (image, head):
        image.load()
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("L", "I", "F") or upright.mode.startswith("I;16")
        # A label map may have a palette: its indices are the labels.
        indices = upright.mode == "P" and label is not None
        values: NDArray[Any] = np.asarray(upright if grey or indices else _colours(upright))
        return _inside(values, label, 127 if image_format(head) == "JPEG" else 0)


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    colours: NDArray[np.uint8] = np.asarray(image.convert("RGB")).max(axis=2)
    return colours


def _of_volume(path: Path, label: int | None, max_voxels: int, grid: object) -> BoolArray:
    with open_volume(path, max_voxels) as image:
        shape = tuple(int(length) for length in image.shape)
        if isinstance(grid, NiftiGrid):
            _refuse_elsewhere(shape, image.affine, grid)
        else:
            grid = nifti_grid(shape, image.affine, image.header)
        return np.ascontiguousarray(grid.to_slices(_inside(voxels_of(image), label, 0)))


def _inside(values: NDArray[Any], label: int | None, above: int) -> BoolArray:
    inside: BoolArray = values > above if label is None else values == label
    return inside


def _refuse_elsewhere(shape: tuple[int, ...], affine: NDArray[np.float64], grid: NiftiGrid) -> None:
    solid, scan_solid = (tuple((*each, 1, 1)[:3]) for each in (shape, grid.shape))
    if solid != scan_solid:
        raise UnreadableScan(f"it has {solid} voxels, its scan has {scan_solid}; expected the same grid")
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*solid, 1]
    distance = float(np.abs(corners @ (affine - grid.affine).T).max())
    # Not `distance > ...`: affines that are not finite compare equal only to themselves.
    if not distance <= _SAME_PLACE_MM and not np.array_equal(affine, grid.affine, equal_nan=True):
        raise UnreadableScan(f"it lies {distance:.3g} mm away from its scan; expected the same affine")

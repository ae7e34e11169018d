"""True masks, and masks of earlier runs, on the grid of their scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lexiseg.errors import UnreadableScan
from lexiseg.io.images import open_image
from lexiseg.io.names import image_format
from lexiseg.io.nifti import NiftiHeader, NiftiReader, open_volume, read_voxels
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume

_JPEG_HALF = 127


@dataclass(frozen=True, eq=False)
class Stored:
    """Values of a file on their grid.

    Attributes:
        values: (H, W) of an image, the largest of its channels; (D, H, W) of NIfTI, scaled by its header.
        path: the file.
        geometry: where a NIfTI file's voxels lie; None for images.
        header: what a writer of the same voxels repeats; None for images.
        blurred: True of JPEG, in which a mask's edges have values between.
    """

    values: NDArray[Any]
    path: Path
    geometry: Geometry | None = None
    header: NiftiHeader | None = None
    blurred: bool = False

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """mm along each axis of `values`; None where the file does not say."""
        return self.geometry.spacing if self.geometry is not None else None

    def inside(self, label: int | None = None) -> BoolArray:
        """bool, the shape of `values`: above 0 (of JPEG, above half its range), or equal to `label`."""
        above = _JPEG_HALF if self.blurred else 0
        return np.ascontiguousarray(self.values > above if label is None else self.values == label)

    def binary(self) -> BoolArray:
        """`inside`, of a file that holds 0 and one positive value.

        Raises:
            UnreadableScan: it holds anything else; one line that begins with the file's name.
        """
        held = np.unique(self.values)
        others = held[held != 0]
        with reading(self.path):
            if self.blurred:
                raise UnreadableScan("it is a JPEG, which blurs edges; expected a mask as PNG or NIfTI")
            if not np.isfinite(held).all() or others.size > 1 or (others.size == 1 and others[0] < 0):
                raise UnreadableScan(
                    f"it holds {held.size} values from {held.min():g} to {held.max():g}, "
                    "expected 0 and one other; threshold it, or choose one label"
                )
        return np.ascontiguousarray(self.values != 0)


def read_stored(
    path: str | Path, *, indices: bool = False, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS
) -> Stored:
    """Read the values of a mask, a label map or a saliency from an image file or NIfTI.

    An image's EXIF orientation is applied as for scans, transparency is not looked at. NIfTI is read on its own
    voxels, as `read_scan` reads it.

    Args:
        path: the file.
        indices: of a palette image, the palette's indices (labels) and not its colours.
        max_pixels: as for `read_scan`.
        max_voxels: as for `read_scan`.

    Raises:
        UnreadableScan: as for `read_scan`, but a flat file is no error.
    """
    path = Path(path)
    with reading(path):
        head = regular_head(path)
        if image_format(head):
            return _of_image(path, indices, max_pixels)
        if NiftiReader().can_read(head, path):
            return _of_volume(path, max_voxels)
        raise UnreadableScan("its content is no image and no NIfTI; expected a mask as PNG or NIfTI")


def _of_image(path: Path, indices: bool, max_pixels: int) -> Stored:
    with open_image(path, max_pixels) as (image, head):
        image.load()
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("L", "I", "F") or upright.mode.startswith("I;16")
        as_is = grey or (upright.mode == "P" and indices)
        values: NDArray[Any] = np.asarray(upright if as_is else _brightest(upright))
        return Stored(values, path, blurred=image_format(head) == "JPEG")


def _brightest(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    colours: NDArray[np.uint8] = np.asarray(image.convert("RGB")).max(axis=2)
    return colours


def _of_volume(path: Path, max_voxels: int) -> Stored:
    with open_volume(path, max_voxels) as image:
        values, geometry, header = read_voxels(image)
    return Stored(values, path, geometry, header)


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
    EXIF orientation is applied as for scans, transparency is not looked at.

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

    Example:
        >>> read_mask("mask.png").dtype
        dtype('bool')
    """
    path = Path(path)
    # A label map may have a palette: its indices are the labels.
    stored = read_stored(path, indices=label is not None, max_pixels=max_pixels, max_voxels=max_voxels)
    with reading(path):
        mask = stored.inside(label)
        if scan is not None and mask.shape != scan.shape:
            raise UnreadableScan(f"its shape is {mask.shape}, its scan's is {scan.shape}; expected the same")
        if stored.geometry is not None and isinstance(scan, Volume):
            refuse_other_place(stored.geometry, scan.geometry)
        return mask


def refuse_other_place(own: Geometry, wanted: Geometry) -> None:
    """Pass where two grids of one shape lie in the same place.

    Raises:
        UnreadableScan: they do not; the reason alone.
    """
    distance = own.distance(wanted)
    # Not `distance > ...`: it is NaN where one of the affines is.
    if not distance <= SAME_PLACE_MM:
        raise UnreadableScan(f"it lies {distance:.3g} mm away from its scan; expected the same affine")

"""Siemens mosaics: a volume's slices side by side in one picture.  nibabel knows where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom_files import read_header
from lexiseg.values.geometry import Geometry

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def mosaic_geometry(path: Path) -> tuple[Geometry, bool]:
    """The grid of a mosaic's slices, in the order of their positions along the normal.

    Returns:
        It, and whether that order is the reverse of the mosaic's.

    Raises:
        UnreadableScan: the private header does not say how many slices there are, or where; the reason alone.
    """
    # Here, because importing nibabel takes 0.5 s and few files are mosaics.
    from nibabel.nicom import dicomwrappers

    header = read_header(path)
    wrapped = dicomwrappers.wrapper_from_data(header)
    if not isinstance(wrapped, dicomwrappers.MosaicWrapper) or wrapped.image_shape is None:
        raise UnreadableScan("it is a mosaic whose private header does not say how many slices it has")
    rows, columns, depth = (int(length) for length in wrapped.image_shape)
    # nibabel counts rows before columns.
    lps = np.asarray(wrapped.affine, np.float64)[:, [1, 0, 2, 3]]
    if min(rows, columns, depth) < 1 or not np.isfinite(lps).all():
        raise UnreadableScan("it is a mosaic whose private header does not say where its slices lie")
    backwards = float(np.cross(lps[:3, 0], lps[:3, 1]) @ lps[:3, 2]) < 0
    if backwards:
        lps[:3, 3] += (depth - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
    frame = str(header.get("FrameOfReferenceUID") or "")
    return Geometry((depth, rows, columns), _LPS_TO_RAS @ lps + 0.0, frame), backwards


def cut_mosaic(picture: NDArray[Any], shape: tuple[int, int, int], *, backwards: bool) -> NDArray[Any]:
    """The slices (D, H, W) of a mosaic's picture, row by row of its tiles."""
    depth, rows, columns = shape
    across = picture.shape[1] // columns
    tiles = picture[: picture.shape[0] // rows * rows, : across * columns].reshape(-1, rows, across, columns)
    slices = tiles.swapaxes(1, 2).reshape(-1, rows, columns)[:depth]
    return np.ascontiguousarray(slices[::-1] if backwards else slices)

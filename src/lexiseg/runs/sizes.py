"""How large a mask is: area, volume, and the largest diameter of one of its pieces."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Planes, Scan, Volume


def sizes(mask: BoolArray, planes: Planes) -> dict[str, str]:
    """The cells of `Row` that say how large a mask is.

    Args:
        mask: bool, of the scan's shape.
        planes: of the scan, as it was looked at.
    """
    scan = planes.scan
    count = int(mask.sum())
    spacing = scan.spacing
    diameter = largest_diameter(mask, scan)
    found = {"diameter_mm": "" if diameter is None else f"{diameter:.2f}"}
    if not isinstance(scan, Volume):
        area = "" if spacing is None else f"{count * math.prod(spacing):.2f}"
        return {"area_px": str(count), "area_mm2": area, **found}
    size = scan.geometry.volume(mask)
    return {
        "slices": str(int(planes.cut(mask).any(axis=(1, 2)).sum())),
        "volume_mm3": "" if size is None else f"{size:.2f}",
        **found,
    }


def largest_diameter(mask: BoolArray, scan: Scan) -> float | None:
    """The largest distance in mm between two points of one connected piece of a mask.

    Pixels and voxels are cells, so a single one has the diameter of its diagonal. Pieces are connected across edges
    and corners too. It is exact: the two points are corners of cells, and vertices of the piece's convex hull.

    Returns:
        None where the mask is empty or the spacing is not known.
    """
    from scipy import ndimage

    if scan.spacing is None or not mask.any():
        return None
    if isinstance(scan, Volume):
        geometry = scan.geometry
    else:
        geometry = Geometry.of_spacing((1, *scan.shape), (1.0, *scan.spacing))
    stack = mask if mask.ndim == 3 else mask[None]
    labels, _ = ndimage.label(stack, structure=np.ones((3, 3, 3)))
    largest = 0.0
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        corners = _corners(labels[place] == number, [part.start for part in place], flat=mask.ndim == 2)
        reach = _positions(corners, geometry)
        # No piece reaches further than its box's diagonal.
        if np.linalg.norm(np.ptp(reach, axis=0)) > largest:
            largest = max(largest, _widest(reach, flat=mask.ndim == 2))
    return largest


def _corners(piece: BoolArray, start: list[int], *, flat: bool) -> NDArray[np.float64]:
    """The corners of a piece's cells, as slice, row and column, without those between two others of one row."""
    slices, rows = np.nonzero(piece.any(axis=2))
    lines = piece[slices, rows]
    first, last = lines.argmax(axis=1), piece.shape[2] - lines[:, ::-1].argmax(axis=1)
    ends = []
    for column in (first, last):
        for row in (rows, rows + 1):
            for slice_ in (slices,) if flat else (slices, slices + 1):
                ends.append(np.stack([slice_ + start[0], row + start[1], column + start[2]], axis=1))
    return np.unique(np.concatenate(ends), axis=0).astype(np.float64) - 0.5


def _positions(corners: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Corners in mm, in a frame of their own."""
    steps = geometry.affine[:3, :3]
    along = corners[:, 0]
    if geometry.positions is not None:
        centres, thick = np.asarray(geometry.positions), geometry.thicknesses
        # Half-way between neighbours, and as far beyond the outer ones.
        between = (centres[1:] + centres[:-1]) / 2
        edges = np.concatenate([centres[:1] - thick[0] / 2, between, centres[-1:] + thick[-1] / 2])
        along = edges[np.rint(along + 0.5).astype(int)] / np.linalg.norm(steps[:, 2])
    found: NDArray[np.float64] = np.stack([corners[:, 2], corners[:, 1], along], axis=1) @ steps.T
    return found


def _widest(points: NDArray[np.float64], *, flat: bool) -> float:
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    if flat:
        # The hull of a picture, which lies in one plane, is a polygon.
        points = points[:, :2]
    hull = points[ConvexHull(points).vertices]
    return float(pdist(hull).max())

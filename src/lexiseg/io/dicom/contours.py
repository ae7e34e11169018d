"""The outline of a mask in one slice as closed polygons, holes joined to their outline by keyholes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import box_of

Polygon = NDArray[np.float64]
"""(N, 2): row and column of each corner, in pixels, a pixel's centre at whole numbers; closed without repeating."""


def outlines(mask: BoolArray) -> list[Polygon]:
    """Polygons that enclose the centres of a mask's pixels, and no others.

    They run half-way between pixels inside and outside (marching squares), so no centre lies nearer than a third of a
    pixel to a line. A hole is joined to its outline by two lines on one another, a keyhole, as DICOM wants it of
    closed planar contours (PS3.3 C.8.8.6.3). Keyholes run down a column between two centres. Pixels that touch at a
    corner alone have outlines of their own.

    Args:
        mask: bool (H, W).

    Example:
        >>> [len(each) for each in outlines(np.ones((2, 3), bool))]
        [8]
    """
    from skimage.measure import find_contours

    if not mask.any():
        return []
    x0, y0, x1, y1 = box_of(mask)
    part = np.pad(mask[y0:y1, x0:x1], 1)
    found = find_contours(part.astype(np.float64), 0.5, fully_connected="low", positive_orientation="low")
    offset = np.array([y0 - 1, x0 - 1], np.float64)
    polygons = [contour[:-1] + offset for contour in found]
    outer = [each for each in polygons if _area(each) < 0]
    holes = sorted((_from_top(each) for each in polygons if _area(each) > 0), key=lambda each: tuple(each[0]))
    if holes:
        boxes = np.array([[*each.min(axis=0), *each.max(axis=0)] for each in outer])
        for hole in holes:
            row, column = hole[0]
            around = (boxes[:, 0] < row) & (row < boxes[:, 2]) & (boxes[:, 1] < column) & (column < boxes[:, 3])
            _join(outer, hole, np.flatnonzero(around))
    return [_without_straight(each) for each in outer]


def _area(polygon: Polygon) -> float:
    """Twice the signed area; outlines and holes run round in opposite ways."""
    row, column = polygon[:, 0], polygon[:, 1]
    return float(np.dot(row, np.roll(column, -1)) - np.dot(column, np.roll(row, -1)))


def _between(polygon: Polygon) -> tuple[Polygon, NDArray[np.int64]]:
    """Where a polygon meets the lines half-way between two columns, and after which corner that is.

    A line between neighbouring corners spans half a pixel, or one pixel along a row or a column. So it meets such a
    line at its first corner, or in its middle.
    """
    following = np.roll(polygon, -1, axis=0)
    at_corner = np.flatnonzero(polygon[:, 1] % 1 == 0.5)
    in_middle = np.flatnonzero(np.abs(following[:, 1] - polygon[:, 1]) == 1)
    points = np.concatenate([polygon[at_corner], (polygon[in_middle] + following[in_middle]) / 2])
    return points, np.concatenate([at_corner, in_middle])


def _from_top(hole: Polygon) -> Polygon:
    """A hole that begins where a keyhole can: at the topmost place between two columns."""
    points, after = _between(hole)
    first = int(np.lexsort((points[:, 1], points[:, 0]))[0])
    place = int(after[first])
    turned = np.roll(hole, -place, axis=0)
    if np.array_equal(turned[0], points[first]):
        return turned
    return np.concatenate([points[first : first + 1], np.roll(turned, -1, axis=0)])


def _join(outer: list[Polygon], hole: Polygon, around: NDArray[np.int64]) -> None:
    """Put a hole into the polygon that a way up from its first corner meets first.

    That is its outline, or another hole of it. The other hole begins higher, so it was joined before.
    """
    row, column = hole[0]
    best, where, after = -np.inf, -1, -1
    for k in around:
        points, places = _meets(outer[k], column)
        above = points < row
        if above.any() and points[above].max() > best:
            best, where = float(points[above].max()), int(k)
            after = int(places[above][np.argmax(points[above])])
    polygon, meeting = outer[where], np.array([[best, column]])
    # A corner that is met serves as the keyhole's end.
    to = meeting[:0] if np.array_equal(polygon[after], meeting[0]) else meeting
    outer[where] = np.concatenate([polygon[: after + 1], to, hole, hole[:1], meeting, polygon[after + 1 :]])


def _meets(polygon: Polygon, column: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows in which a polygon meets a line between two columns, and after which corner; keyholes' ends too."""
    following = np.roll(polygon, -1, axis=0)
    at_corner = np.flatnonzero(polygon[:, 1] == column)
    crossing = np.flatnonzero((polygon[:, 1] - column) * (following[:, 1] - column) < 0)
    middle = (polygon[crossing, 0] + following[crossing, 0]) / 2
    return np.concatenate([polygon[at_corner, 0], middle]), np.concatenate([at_corner, crossing])


def _without_straight(polygon: Polygon) -> Polygon:
    """The same polygon without corners at which it does not turn."""
    before, after = np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0)
    first, second = polygon - before, after - polygon
    turn = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    ahead = (first * second).sum(axis=1)
    # At a keyhole's end the line may turn back, which is no straight way either.
    found: Polygon = polygon[(turn != 0) | (ahead <= 0)]
    return found

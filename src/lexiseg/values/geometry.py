"""Where voxels lie: an affine, and the planes in which a volume is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UsageError

PlaneName = Literal["auto", "axial", "coronal", "sagittal"]
"""A plane to look at, or "auto" for the one that the volume was acquired in."""

# For each plane, the world axis (0 right, 1 anterior, 2 superior) and the sign of the direction along which
# slice, row and column indices grow: axial and coronal with the patient's right on the left of the screen,
# sagittal with anterior on the left, head or front up.
_DIRECTIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "coronal": ((1, 1), (2, -1), (0, -1)),
    "sagittal": ((0, 1), (2, -1), (1, -1)),
}
_THICKER = 1.1
_LEANS = np.sin(np.radians(20))
_RIGHT = 1e-4
"""What rounding in a file takes of a box's volume; a tilt of 1 degree takes 1.5e-4."""
_FLAT = 1e-3
"""Axes that span less of a box's volume lie in a plane, and say no directions."""


@dataclass(frozen=True)
class PlaneAxes:
    """How an array (D, H, W) is turned into upright planes: axes permuted and reversed, nothing interpolated.

    Attributes:
        name: "axial", "coronal" or "sagittal"; "frames" of a stack in time.
        axes: the array axis that slice, row and column of the planes run along.
        flips: which of them run against their array axis.
    """

    name: str
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view (N, h, w, ...) of an array (D, H, W, ...): its planes in order, each upright."""
        return array.transpose((*self.axes, *range(3, array.ndim)))[self._steps]

    def assemble(self, planes: NDArray[Any]) -> NDArray[Any]:
        """A view (D, H, W) of planes (N, h, w); the inverse of `cut`."""
        return planes[self._steps].transpose(np.argsort(self.axes))

    def stored(self, points: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        """Points (M, 2), x y in planes of that shape, as x y on the array's own rows and columns.

        Args:
            points: in pixels, a pixel's centre at +0.5.
            shape: (h, w) of the planes, which run along the array's last two axes.
        """
        rows, columns = (
            side - points[:, k] if flip else points[:, k]
            for k, side, flip in zip((1, 0), shape, self.flips[1:], strict=True)
        )
        return np.stack([columns, rows] if self.axes[1] < self.axes[2] else [rows, columns], axis=1)

    @property
    def turns(self) -> bool:
        """Whether planes of the array's first axis are turned or mirrored to be upright."""
        return self.axes != (0, 1, 2) or any(self.flips[1:])

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume.

    Attributes:
        shape: (D, H, W): slices, rows and columns of the array, as they are stored.
        affine: float64 (4, 4): voxel (column, row, slice) to RAS+ mm.
        frame: of reference, a DICOM UID; "" where nobody knows.
        positions: mm of each slice along the stack, from the first, where their distances differ; None where the
            affine says it all. The affine then has the mean distance.
        time: whether slices follow each other in time, not in space: they have no distance.
        placed: whether the affine says which way is which in the body; False where it only stands for the spacing.

    Raises:
        ValueError: there is another number of positions than slices.

    Example:
        >>> Geometry.of_spacing((20, 64, 64), (5.0, 0.5, 0.5)).plane_axes().name
        'axial'
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame: str = ""
    positions: tuple[float, ...] | None = None
    time: bool = False
    placed: bool = True

    def __post_init__(self) -> None:
        if self.positions is not None and len(self.positions) != self.shape[0]:
            raise ValueError(f"there are {len(self.positions)} positions of {self.shape[0]} slices; expected as many")

    @classmethod
    def of_spacing(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float] | None = None) -> Self:
        """A grid that nobody placed: axial slices from feet to head, upright, with this spacing.

        Args:
            shape: (D, H, W).
            spacing: mm along slice, row and column; 1 each when None.
        """
        slice_, row, column = spacing or (1.0, 1.0, 1.0)
        return cls(shape, np.diag([-column, -row, slice_, 1.0]), placed=False)

    @classmethod
    def of_picture(
        cls, shape: tuple[int, int], directions: NDArray[np.float64], spacing: tuple[float, float] | None = None
    ) -> Self:
        """One slice (1, H, W) of which only the directions are known.

        Args:
            shape: (H, W).
            directions: (2, 3): the unit vectors in RAS+ along which column and row indices grow.
            spacing: mm along row and column; 1 each when None.
        """
        right, down = directions
        row, column = spacing or (1.0, 1.0)
        # By far the thickest, so that the picture is its plane of acquisition, of whatever size it is.
        through = 10 * max(row, column) * np.cross(right, down)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([column * right, row * down, through], axis=1)
        return cls((1, *shape), affine)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """mm between voxel centres along slice, row and column; None where the affine does not say, or in time."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        if self.time or not np.isfinite(sizes).all() or sizes.min() <= 0:
            return None
        return float(sizes[2]), float(sizes[1]), float(sizes[0])

    @property
    def pixel_spacing(self) -> tuple[float, float] | None:
        """mm between voxel centres along row and column, also of a stack in time; None where nobody knows."""
        column, row = (float(size) for size in np.linalg.norm(self.affine[:3, :2], axis=0))
        return (row, column) if np.isfinite([row, column]).all() and min(row, column) > 0 else None

    @property
    def thicknesses(self) -> NDArray[np.float64]:
        """float64 (D,): mm of each slice along the stack, as far as it stands for its place.

        Where distances differ, each is as thick as half the way to its neighbours, the outer ones as the way to their
        one neighbour.
        """
        depth = self.shape[0]
        if self.positions is None or depth < 2:
            return np.full(depth, np.linalg.norm(self.affine[:3, 2]))
        gaps = np.diff(np.asarray(self.positions))
        found: NDArray[np.float64] = np.concatenate([gaps[:1], (gaps[:-1] + gaps[1:]) / 2, gaps[-1:]])
        return found

    def volume(self, mask: NDArray[np.bool_]) -> float | None:
        """The volume of a mask (D, H, W) in mm3; None where the spacing is not known.

        A voxel is the parallelepiped of the affine's three steps, as thick as its slice (see `thicknesses`).

        Example:
            >>> Geometry.of_spacing((2, 3, 4), (5.0, 1.0, 0.5)).volume(np.ones((2, 3, 4), bool))
            60.0
        """
        return self.volume_of(mask.sum(axis=(1, 2)))

    def volume_of(self, counts: NDArray[np.int64]) -> float | None:
        """The volume in mm3 of so many voxels in each slice, (D,); see `volume`."""
        if self.spacing is None:
            return None
        column, row, _ = np.linalg.norm(self.affine[:3, :3], axis=0)
        # Of a sheared stack, slices lie closer than their centres do.
        return float((counts * self.thicknesses).sum() * column * row * self._fullness)

    @property
    def directions(self) -> NDArray[np.float64] | None:
        """float64 (3, 3): the unit vectors in RAS+ of a step along slice, row and column, in rows; None where they are
        at right angles, or not known. A gantry that was tilted shears a stack.
        """
        if self.spacing is None or not _FLAT < self._fullness < 1 - _RIGHT:
            return None
        return np.ascontiguousarray(self._cosines()[:, ::-1].T)

    def distance_of_planes(self, axis: int) -> float | None:
        """mm from one plane across an array axis to the next, along their normal; None where the spacing is not known.

        Of a sheared volume that is less than from centre to centre.

        Example:
            >>> Geometry.of_spacing((2, 3, 4), (5.0, 1.0, 0.5)).distance_of_planes(0)
            5.0
        """
        spacing, directions = self.spacing, self.directions
        if spacing is None or directions is None:
            return None if spacing is None else spacing[axis]
        one, other = np.delete(directions, axis, axis=0)
        normal = np.cross(one, other)
        return spacing[axis] * abs(float(directions[axis] @ normal)) / float(np.linalg.norm(normal))

    @property
    def _fullness(self) -> float:
        """A cell's volume as a share of that of a box with its edges."""
        return abs(float(np.linalg.det(self._cosines())))

    @property
    def regular(self) -> bool:
        """Whether the affine alone says where each voxel lies."""
        return self.positions is None and not self.time

    @property
    def oriented(self) -> bool:
        """Whether the affine is finite and regular, so that the body's axes can be told."""
        if not np.isfinite(self.affine).all() or self.spacing is None:
            return False
        return bool(np.linalg.matrix_rank(self._cosines()) == 3)

    def plane_axes(self, plane: PlaneName = "auto") -> PlaneAxes:
        """The directions in which the volume is shown upright.

        Each array axis is matched with the world axis closest to it, so an oblique volume is cut along its own
        axes.  "auto" cuts across the only axis of one voxel, else across the axis whose voxels are clearly
        (10 %) thicker than all others, which gives the plane of acquisition, else axially.  An affine that is
        singular or not finite cannot be matched: column, row and slice then count as right, anterior, superior.
        A stack in time has its frames alone.

        Args:
            plane: a plane, or "auto".

        Raises:
            UsageError: no such plane, or a plane of a stack in time.
        """
        if plane not in get_args(PlaneName):
            raise UsageError(f"plane is {plane!r}; expected one of {', '.join(get_args(PlaneName))}")
        if self.time:
            if plane != "auto":
                raise UsageError(f"plane is {plane!r}, and the frames follow each other in time; expected auto")
            return PlaneAxes("frames", (0, 1, 2), (False, False, False))
        matched = self._matched()
        name = plane if plane != "auto" else self._acquired(matched)
        voxel_of = {world: voxel for voxel, (world, _) in enumerate(matched)}
        wanted = _DIRECTIONS[name]
        voxels = [voxel_of[world] for world, _ in wanted]
        flips = [matched[voxel][1] != sign for voxel, (_, sign) in zip(voxels, wanted, strict=True)]
        # Voxel axes count column, row, slice; array axes slice, row, column.
        axes = [2 - voxel for voxel in voxels]
        return PlaneAxes(name, (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))

    def letters(self, axes: PlaneAxes) -> dict[str, str] | None:
        """Which way of the body each side of a plane is: "left", "right", "top" and "bottom" of the picture.

        R and L are the patient's right and left, A and P front and back, S and I head and feet. An oblique plane has
        the letters of all directions that it leans to by 20 degrees or more, the nearest first (PS3.3 C.7.6.1.1.1).

        Args:
            axes: from `plane_axes`.

        Returns:
            None where nobody knows, and of a stack in time.

        Example:
            >>> grid = Geometry((20, 64, 64), np.diag([-0.5, -0.5, 5.0, 1.0]))
            >>> grid.letters(grid.plane_axes("coronal"))
            {'left': 'R', 'right': 'L', 'top': 'S', 'bottom': 'I'}
        """
        if self.time or not self.placed or not self.oriented:
            return None
        cosines = self._cosines()
        down, right = (
            cosines[:, 2 - axis] * (-1 if flip else 1) for axis, flip in zip(axes.axes[1:], axes.flips[1:], strict=True)
        )
        return {"left": _named(-right), "right": _named(right), "top": _named(-down), "bottom": _named(down)}

    def distance(self, other: Geometry) -> float:
        """How far apart two grids of one shape lie: the largest shift of a corner along a world axis, in mm.

        Affines that are not finite are equal only to themselves; NaN where they differ.
        """
        if np.array_equal(self.affine, other.affine, equal_nan=True):
            return 0.0
        depth, height, width = self.shape
        unit = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        corners = unit * [width, height, depth, 1]
        return float(np.abs(corners @ (self.affine - other.affine).T).max())

    def _cosines(self) -> NDArray[np.float64]:
        """(3, 3): the direction of each voxel axis, a column of unit length."""
        linear = self.affine[:3, :3]
        cosines: NDArray[np.float64] = linear / np.sqrt((linear * linear).sum(axis=0))
        return cosines

    def _matched(self) -> tuple[tuple[int, int], ...]:
        """For each voxel axis the world axis closest to it, and the sign of its direction.

        Of the rotation that is closest to the affine (its polar decomposition), the axis that points most clearly
        chooses first, so that very oblique volumes are named as nibabel names them.
        """
        if not self.oriented:
            return ((0, 1), (1, 1), (2, 1))
        left, _, right = np.linalg.svd(self._cosines())
        rotation = left @ right
        closeness = np.abs(rotation)
        matched = [(0, 0)] * 3
        for voxel in np.argsort(-(rotation**2).max(axis=0), kind="stable"):
            world = int(np.argmax(closeness[:, voxel]))
            matched[voxel] = (world, 1 if rotation[world, voxel] > 0 else -1)
            closeness[world] = -1
        return tuple(matched)

    def _acquired(self, matched: tuple[tuple[int, int], ...]) -> str:
        names = {directions[0][0]: name for name, directions in _DIRECTIONS.items()}
        lengths = self.shape[::-1]
        single = [voxel for voxel, length in enumerate(lengths) if length == 1]
        if len(single) == 1:
            return names[matched[single[0]][0]]
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        thickest = int(np.argmax(sizes))
        if np.isfinite(sizes).all() and sizes[thickest] > _THICKER * np.delete(sizes, thickest).max():
            return names[matched[thickest][0]]
        return "axial"


def _named(direction: NDArray[np.float64]) -> str:
    """The letters of a direction, RAS."""
    return "".join(
        ("LPI", "RAS")[int(direction[world] > 0)][world]
        for world in np.argsort(-np.abs(direction), kind="stable")
        if abs(direction[world]) >= _LEANS
    )

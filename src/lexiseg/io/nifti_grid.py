"""Where a volume's slices lie on the grid of the NIfTI file they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.io.reader import VolumeAxis

# For each plane, the world axis (0 right, 1 anterior, 2 superior) and the sign of the direction along which
# slice, row and column indices grow: axial and coronal with the patient's right on the left of the screen,
# sagittal with anterior on the left, head or front up.
_PLANES: dict[str, tuple[tuple[int, int], ...]] = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "coronal": ((1, 1), (2, -1), (0, -1)),
    "sagittal": ((0, 1), (2, -1), (1, -1)),
}
_THICK = 1.1


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """The permutation between slices (D, H, W) and a NIfTI file's voxels, and what its writer must repeat.

    No voxel is ever interpolated: axes are permuted and reversed, so the way back is exact.

    Attributes:
        shape: the file's shape, with all its trailing axes of one.
        axes: the voxel axis that slice, row and column run along.
        flips: which of slice, row and column run against their voxel axis.
        affine: float64 (4, 4), voxel indices to RAS+ mm, as read.
        header: nibabel's header, as read.
        plane: "axial", "coronal" or "sagittal".
    """

    shape: tuple[int, ...]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    affine: NDArray[np.float64]
    header: Any
    plane: str

    def to_slices(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """A view (D, H, W) of an array of the file's shape."""
        view = voxels.reshape(self._solid).transpose(self.axes)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def to_source(self, slices: NDArray[Any]) -> NDArray[Any]:
        """An array of the file's shape of slices (D, H, W); the inverse of `to_slices`."""
        view = slices[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return view.transpose(np.argsort(self.axes)).reshape(self.shape)

    def distance(self, other: NiftiGrid) -> float:
        """How far apart two grids of one shape lie: the largest shift of a corner along an axis, in mm.

        Affines that are not finite compare equal only to themselves; NaN where they differ.
        """
        if np.array_equal(self.affine, other.affine, equal_nan=True):
            return 0.0
        unit = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        corners = unit * [*self._solid, 1]
        return float(np.abs(corners @ (self.affine - other.affine).T).max())

    @property
    def _solid(self) -> tuple[int, int, int]:
        x, y, z = (*self.shape, 1, 1, 1)[:3]
        return x, y, z


def nifti_grid(
    shape: tuple[int, ...], affine: NDArray[np.float64], header: Any, *, volume_axis: VolumeAxis = "auto"
) -> NiftiGrid:
    """Choose the plane and the directions in which a volume is shown upright.

    Each voxel axis is matched with the world axis closest to it, so oblique volumes are cut along their own
    axes. "auto" cuts across the only axis of one voxel, else across the axis whose voxels are clearly (10 %)
    thicker than all others, which gives the plane the scan was acquired in, else axially. A singular or
    non-finite affine cannot be matched: the voxel axes then count as right, anterior, superior.

    Args:
        shape: the file's shape; axes beyond the third have length one.
        affine: float64 (4, 4), voxel indices to RAS+ mm.
        header: nibabel's header.
        volume_axis: a plane, or "auto".

    Returns:
        The grid.
    """
    from nibabel.orientations import io_orientation

    world = np.array([[0, 1], [1, 1], [2, 1]])
    if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0:
        matched = io_orientation(affine)
        if np.isfinite(matched).all():
            world = matched.astype(int)
    voxel_axis_of = {int(axis): voxel for voxel, (axis, _) in enumerate(world)}
    plane = volume_axis if volume_axis != "auto" else _acquired_plane(shape, affine, world)
    wanted = _PLANES[plane]
    axes = tuple(voxel_axis_of[axis] for axis, _ in wanted)
    flips = tuple(bool(world[voxel][1] != sign) for voxel, (_, sign) in zip(axes, wanted, strict=True))
    return NiftiGrid(
        shape=shape,
        axes=(axes[0], axes[1], axes[2]),
        flips=(flips[0], flips[1], flips[2]),
        affine=affine,
        header=header,
        plane=plane,
    )


def _acquired_plane(shape: tuple[int, ...], affine: NDArray[np.float64], world: NDArray[Any]) -> str:
    names = {rule[0][0]: name for name, rule in _PLANES.items()}
    single = [axis for axis, length in enumerate((*shape, 1, 1)[:3]) if length == 1]
    if len(single) == 1:
        return names[int(world[single[0]][0])]
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    thickest = int(np.argmax(sizes))
    others = np.delete(sizes, thickest)
    if np.isfinite(sizes).all() and sizes[thickest] > _THICK * others.max():
        return names[int(world[thickest][0])]
    return "axial"

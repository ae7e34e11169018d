"""Volumes that were drawn on one grid, and were stored on it turned, mirrored or with a rounded affine."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.values.geometry import Geometry

SAME_PLACE = 0.1
"""Grids of which no voxel lies further than this from the other's, in voxels, are one.

An affine of four decimals moves the far corner of 512 x 512 x 100 voxels of 0.7 mm by 0.08 of a voxel, one in single
precision by 0.0002. From 0.5 on, another voxel would be the nearest.
"""

_NOTHING = 1e-3
_DECIMALS = range(2, 7)


@dataclass(frozen=True)
class Turn:
    """How an array (D, H, W) is put on another grid: axes permuted, then some reversed; nothing interpolated.

    Attributes:
        axes: the array axis that each axis of the result runs along.
        flips: which axes of the result run backwards.
        note: what was done; "" where the grids are one.
    """

    axes: tuple[int, ...] = (0, 1, 2)
    flips: tuple[bool, ...] = (False, False, False)
    note: str = ""

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """A view of the array on the other grid."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return values.transpose(self.axes)[steps]


def turn_onto(own: Geometry, wanted: Geometry) -> Turn:
    """The turn that puts one grid on another, by their affines.

    With A the affines, inv(A_wanted) A_own maps own voxels to wanted ones. It must be a signed permutation that maps
    every own voxel onto a wanted one, to `SAME_PLACE`; or the affines are the same but for the number of decimals.

    Args:
        own: of the array that is turned.
        wanted: of the result.

    Raises:
        UnreadableScan: the grids differ in size or place; the reason alone.
    """
    same_shape = own.shape == wanted.shape
    if same_shape and np.array_equal(own.affine, wanted.affine, equal_nan=True):
        return Turn()
    if own.oriented and wanted.oriented:
        found = _turn(own, wanted)
        if found is not None:
            return found
        if same_shape and (decimals := _rounded_to(own, wanted)):
            return Turn(note=f"an affine of {decimals} decimals: taken as the same grid")
    if not same_shape:
        raise UnreadableScan(f"its shape is {own.shape}, its scan's is {wanted.shape}; expected the same")
    raise UnreadableScan(f"it lies {own.distance(wanted):.3g} mm away from its scan; expected the same affine")


def _turn(own: Geometry, wanted: Geometry) -> Turn | None:
    try:
        matrix = np.linalg.solve(wanted.affine, own.affine)
    except np.linalg.LinAlgError:
        return None
    linear = np.rint(matrix[:3, :3])
    if not (np.abs(linear).sum(axis=0) == 1).all() or not (np.abs(linear).sum(axis=1) == 1).all():
        return None
    # Voxel axes count column, row, slice; array axes slice, row, column.
    own_axis = np.abs(linear).argmax(axis=1)
    flips = linear.sum(axis=1) < 0
    lengths = np.array(own.shape[::-1])
    if tuple(lengths[own_axis]) != wanted.shape[::-1]:
        return None
    offset = np.where(flips, lengths[own_axis] - 1, 0)
    corners = np.array(list(product(*((0, length - 1) for length in lengths))), np.float64)
    shift = float(np.abs(corners @ (matrix[:3, :3] - linear).T + (matrix[:3, 3] - offset)).max())
    if not shift <= SAME_PLACE:
        return None
    turn = Turn(
        axes=tuple(int(2 - axis) for axis in own_axis[::-1]),
        flips=tuple(bool(flip) for flip in flips[::-1]),
    )
    told = []
    if turn.axes != (0, 1, 2):
        told.append("axes permuted")
    if any(turn.flips):
        told.append("mirrored along " + " and ".join("zyx"[axis] for axis in range(3) if turn.flips[axis]))
    note = f"stored {' and '.join(told)}: undone by the affines" if told else ""
    if shift > _NOTHING:
        note += f"{'; ' if note else ''}its affine is {shift:.2g} of a voxel off: taken as the same grid"
    return Turn(turn.axes, turn.flips, note)


def _rounded_to(own: Geometry, wanted: Geometry) -> int:
    """The decimals to which one affine is the other, 0 where it is not. Half a step is small beside a voxel."""
    smallest = min(*(own.spacing or (0.0,)), *(wanted.spacing or (0.0,)))
    first, second = own.affine, wanted.affine
    # Affines are stored in single precision.
    slack = 2.0**-22 * max(np.abs(first).max(), np.abs(second).max())
    for decimals in _DECIMALS:
        if 0.5 * 10.0**-decimals > smallest * SAME_PLACE:
            continue
        if any(
            np.abs(np.round(one, decimals) - other).max() <= slack for one, other in ((first, second), (second, first))
        ):
            return decimals
    return 0

"""Where a NIfTI file's voxels lie: the one place that decides it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.geometry import Geometry

# The determinant of the axes' directions, below which they do not span space.
_REGULAR = 1e-4
# Quaternions are stored in single precision, or come from text: |b, c, d| squared may exceed 1 by this.
_QUATERNION_ROUNDING = 1e-3
# Of the smallest voxel edge: where sform and qform lie further apart, they name different places.
_DISAGREE = 0.1
UNKNOWN = "orientation is not known: neither sform nor qform says it; left and right may be exchanged"
"""A note on an affine that stands for the voxel sizes alone."""


def affine_of(header: Any, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], dict[str, str]]:
    """A header's affine, in the header's units, by the first rule that can be used.

    1. The sform, where its code is above 0 and it is finite and regular. An axis of one voxel has no direction to
       get wrong: where only such an axis makes it singular, that axis is completed at a right angle to the others.
    2. The qform, where its code is above 0, its offsets and sizes are finite, and its quaternion is a rotation;
       one that exceeds length 1 by rounding is normalised.
    3. The voxel sizes alone, as nibabel takes them: the first axis runs to the patient's left, the second to the
       front, the third to the head. A note says that nobody knows. Sizes that are not above 0 count as 1.

    Where both forms can be used and differ by more than a tenth of a voxel, a note says by how much.

    Args:
        header: nibabel's, of NIfTI-1 or NIfTI-2; not changed.
        shape: (width, height, depth).

    Returns:
        float64 (4, 4), finite and regular; and notes.
    """
    notes: dict[str, str] = {}
    sizes = np.asarray(header["pixdim"], np.float64)[1:4]
    wrong = ~np.isfinite(sizes) | (np.abs(sizes) == 0)
    edges = np.where(wrong, 1.0, np.abs(sizes))
    sform = _sform(header, shape, edges, notes) if int(header["sform_code"]) > 0 else None
    qform = _qform(header, edges, notes) if int(header["qform_code"]) > 0 else None
    if sform is not None:
        if qform is not None:
            _compare(sform, qform, shape, notes)
        return sform, notes
    if qform is not None:
        if int(header["sform_code"]) > 0:
            notes["affine"] = "qform taken: the sform is singular or not finite"
    else:
        notes["affine"] = UNKNOWN
    if any(wrong[axis] for axis in range(3) if shape[axis] > 1):
        notes["voxel_size"] = "not known along every axis: taken as 1"
    if qform is not None:
        return qform, notes
    base = np.diag([-edges[0], edges[1], edges[2], 1.0])
    # The voxel in the middle is the origin, as nibabel has it.
    base[:3, 3] = -base[:3, :3] @ ((np.array(shape) - 1) / 2)
    return base, notes


def is_regular(affine: NDArray[np.float64]) -> bool:
    """True where a (4, 4) is finite and its three axes span space."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not lengths.min() > 0:
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > _REGULAR)


def _sform(
    header: Any, shape: tuple[int, int, int], edges: NDArray[np.float64], notes: dict[str, str]
) -> NDArray[np.float64] | None:
    affine = np.eye(4)
    affine[:3] = [np.asarray(header[f"srow_{axis}"], np.float64) for axis in "xyz"]
    if is_regular(affine):
        return affine
    for axis in range(3):
        if shape[axis] != 1:
            continue
        completed = affine.copy()
        first, second = (affine[:3, (axis + step) % 3] for step in (1, 2))
        across = np.cross(first, second)
        length = np.linalg.norm(across)
        if not (np.isfinite(length) and length > 0):
            continue
        completed[:3, axis] = across / length * edges[axis]
        if is_regular(completed):
            notes["affine"] = f"axis {axis + 1} of one voxel is taken at a right angle to the others"
            return completed
    return None


def _qform(header: Any, edges: NDArray[np.float64], notes: dict[str, str]) -> NDArray[np.float64] | None:
    """The affine of NIfTI's method 2 (nifti1.h, quatern_to_mat44)."""
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    offset = np.array([header[f"qoffset_{axis}"] for axis in "xyz"], np.float64)
    squared = float(vector @ vector)
    if not np.isfinite([squared, *offset]).all() or squared > 1 + _QUATERNION_ROUNDING:
        return None
    mended = header.copy()
    mended["pixdim"][1:4] = edges
    # pixdim[0] is -1 where the third axis is mirrored, and anything else counts as 1.
    mended["pixdim"][0] = -1 if float(header["pixdim"][0]) < 0 else 1
    try:
        return np.asarray(mended.get_qform(), np.float64)
    except ValueError:
        # nibabel allows less than this file's rounding.
        for axis, number in zip("bcd", vector / np.sqrt(squared), strict=True):
            mended[f"quatern_{axis}"] = number
        notes["quaternion"] = f"longer than 1 by {np.sqrt(squared) - 1:.2g}: normalised"
        return np.asarray(mended.get_qform(), np.float64)


def _compare(
    sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, int, int], notes: dict[str, str]
) -> None:
    width, height, depth = shape
    distance = Geometry((depth, height, width), sform).distance(Geometry((depth, height, width), qform))
    lengths = np.sqrt((sform[:3, :3] ** 2).sum(axis=0))
    if distance > _DISAGREE * lengths.min():
        mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
        also = ", and are mirrored to each other" if mirrored else ""
        notes["forms"] = f"sform taken; the qform lies up to {distance:.3g} units away{also}"

"""Affines of volumes that lie every way round."""

from __future__ import annotations

import itertools

import numpy as np
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff

CODES = [tuple(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)]
"""All 48 orientations: where column, row and slice indices of the voxels grow to."""

SPACING = {"R": 0.8, "A": 0.9, "S": 2.5}
"""mm along the world axes of `affine_of`."""

# Where slice, row and column indices of each plane must point, in RAS+.
UPRIGHT = {
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, -1, 0)),
}


def affine_of(codes: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A volume of a file's shape whose voxel axes run along the given world directions."""
    to_canonical = inv_ornt_aff(axcodes2ornt(codes), shape)
    affine = np.diag([*SPACING.values(), 1.0]) @ np.linalg.inv(to_canonical)
    affine[:3, 3] += (-40, 20, 7)
    assert aff2axcodes(affine) == codes
    return affine


def turned(degrees: float) -> np.ndarray:
    """A rotation about the patient's long axis and then about the axis from right to left."""
    angle = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return about_x @ about_z

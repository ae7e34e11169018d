"""A cuboid planted at known mm: every orientation of a NIfTI file, sheared and oblique ones, to the bit and back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from orientations import CODES, affine_of
from study_files import AFFINES

from lexiseg.io.read import read_scan
from lexiseg.io.write import write_mask
from lexiseg.values.scans import Volume

SHAPE = (6, 7, 8)
PLACED = {"".join(codes): affine_of(codes, SHAPE) for codes in CODES} | AFFINES


@pytest.mark.parametrize("name", PLACED)
def test_a_cuboid_comes_back_at_the_same_mm(tmp_path: Path, name: str) -> None:
    voxels = np.zeros(SHAPE, np.int16)
    voxels[1:4, 2:6, 3:7] = np.arange(1, 49).reshape(3, 4, 4)
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(voxels, PLACED[name]), path)
    stored = nib.load(path).affine
    scan = read_scan(path)
    assert isinstance(scan, Volume)
    np.testing.assert_array_equal(scan.geometry.affine, stored)
    planted = {int(voxels[tuple(index)]): stored @ [*index, 1] for index in np.argwhere(voxels)}
    found = {
        int(scan.values[tuple(index)]): scan.geometry.affine @ [*index[::-1], 1] for index in np.argwhere(scan.values)
    }
    assert found.keys() == planted.keys()
    for value, place in planted.items():
        np.testing.assert_array_equal(found[value], place)
    mask = nib.load(write_mask(scan.values > 0, scan, tmp_path))
    np.testing.assert_array_equal(mask.affine, stored)
    np.testing.assert_array_equal(np.asarray(mask.dataobj) > 0, voxels > 0)

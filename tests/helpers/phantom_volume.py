"""A head in three dimensions: a phantom's slice, smaller towards crown and base, with a lesion in its middle."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from lexiseg.datasets.phantoms.registry import generate


def head(slices: int = 24, side: int = 128) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Values (slices, side, side), axial from base to crown, rows to the back, columns to the left; and the lesion."""
    phantom = generate("brain-mri", 0, size=side, target=True, contrast="FLAIR", plane="axial", kind="glioma")
    pixels = phantom.scan.pixels
    lesion = phantom.target
    # The same head without its lesion, as dark as what lies around it.
    without = np.where(lesion, np.median(pixels[(pixels > 0.2) & ~lesion]), pixels)
    values, truth = np.zeros((slices, side, side), np.float32), np.zeros((slices, side, side), bool)
    for k in range(slices):
        # Neither crown nor base: slices of a few pixels show no head.
        height = 0.85 * (k + 0.5 - slices / 2) / (slices / 2)
        size = max(0.2, float(np.sqrt(1 - height**2)))
        middle = (side - 1) / 2
        place = {"matrix": np.eye(2) / size, "offset": middle - middle / size}
        inner = max(0.0, 1 - (height / 0.45) ** 2)
        if inner > 0:
            rows, columns = np.nonzero(lesion)
            centre = np.array([rows.mean(), columns.mean()])
            shrunk = affine_transform(
                lesion.astype(float), np.eye(2) / inner**0.5, offset=centre - centre / inner**0.5, order=1
            ) > 0.5  # fmt: skip
            truth[k] = affine_transform(shrunk.astype(float), **place, order=1) > 0.5
            values[k] = affine_transform(np.where(shrunk, pixels, without), **place, order=1)
        else:
            values[k] = affine_transform(without, **place, order=1)
    return np.rint(1000 * values).astype(np.int16), truth


def write_head(path: Path, slices: int = 24, side: int = 128) -> NDArray[np.bool_]:
    """Write it as NIfTI, voxels of 1 x 1 x 4 mm; the lesion's truth, (slices, rows, columns)."""
    values, truth = head(slices, side)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.0, -1.0, 4.0, 1.0])), path)
    return truth

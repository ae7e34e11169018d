"""Masks to files, on the grid of the scan that they are of."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.files import atomic_write
from lexiseg.io.names import safe_id
from lexiseg.io.nifti_grid import NiftiGrid
from lexiseg.values.scan import Mask, Scan


def write_mask(
    mask: Mask | NDArray[np.uint8] | NDArray[np.bool_],
    scan: Scan,
    folder: str | Path,
    *,
    stem: str | None = None,
) -> Path:
    """Write a mask beside others of its run: STEM_mask.png of an image, STEM_mask.nii.gz of a volume.

    - An image's mask is an 8-bit grey PNG of the scan's size, 0 and 255 (any phrase). With several phrases
      there is also STEM_labels.png, where k is the k-th phrase and 0 background.
    - A volume's mask is uint8 NIfTI, 0 and 1 for one phrase, label values for several, on the source's
      voxels: its shape, affine, sform and qform codes, units and byte order. Scaling, display range, free
      text and extensions (which may name a patient) are left out. A volume made in memory gets an affine of
      its spacing alone, by which `read_scan` gives the same slices.

    Equal masks give equal bytes. Files are written in one step (see `atomic_write`).

    Args:
        mask: a Mask, or an array of the shape of `scan.shape`: bool, or uint8 labels. There are several
            phrases when a Mask has several names, or an array a value above 1.
        scan: the scan that the mask is of.
        folder: where to; made if missing.
        stem: the name's beginning; `safe_id(scan.id)` when None.

    Returns:
        The path of STEM_mask.png or STEM_mask.nii.gz.

    Raises:
        TypeError: the array is neither bool nor uint8.
        ValueError: its shape is not the scan's.
        UnwritableResult: the file system refused.
    """
    given: NDArray[Any] = mask.labels if isinstance(mask, Mask) else mask
    if given.dtype not in (np.uint8, np.bool_):
        raise TypeError(f"the mask is {given.dtype}, expected uint8 or bool")
    if given.shape != scan.shape:
        raise ValueError(f"the mask has shape {given.shape}, expected the scan's {scan.shape}")
    labels: NDArray[np.uint8] = given.astype(np.uint8)
    several = len(mask.names) > 1 if isinstance(mask, Mask) else bool(labels.max() > 1)
    base = Path(folder) / (safe_id(scan.id) if stem is None else stem)
    if scan.volume:
        voxels = labels if several else (labels > 0).astype(np.uint8)
        return atomic_write(_named(base, "_mask.nii.gz"), lambda file: _write_nifti(file, voxels, scan))
    if several:
        atomic_write(_named(base, "_labels.png"), lambda file: _write_png(file, labels))
    union = np.where(labels > 0, np.uint8(255), np.uint8(0))
    return atomic_write(_named(base, "_mask.png"), lambda file: _write_png(file, union))


def write_map(
    values: NDArray[np.float32] | NDArray[np.bool_],
    scan: Scan,
    folder: str | Path,
    *,
    stem: str,
    kind: str,
) -> Path:
    """Write what a stage made of a scan on the scan's grid: STEM_KIND.png, or STEM_KIND.nii.gz of a volume.

    Args:
        values: the shape of `scan.shape`; float32 in [0, 1] (a saliency), or bool (a region). A PNG
            holds 0 to 255; a NIfTI holds float32, or uint8 0 and 1.
        scan: the scan that it is of.
        folder: where to; made if missing.
        stem: the name's beginning.
        kind: the name's end, such as "saliency".

    Returns:
        The path.

    Raises:
        ValueError: the shape is not the scan's.
        UnwritableResult: the file system refused.
    """
    if values.shape != scan.shape:
        raise ValueError(f"the map has shape {values.shape}, expected the scan's {scan.shape}")
    path = Path(folder) / f"{stem}_{kind}{'.nii.gz' if scan.volume else '.png'}"
    if scan.volume:
        voxels = values.astype(np.uint8) if values.dtype == np.bool_ else values.astype(np.float32)
        return atomic_write(path, lambda file: _write_nifti(file, voxels, scan))
    grey = np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    return atomic_write(path, lambda file: _write_png(file, grey))


def _named(base: Path, ending: str) -> Path:
    return base.with_name(base.name + ending)


def _write_png(file: BinaryIO, grey: NDArray[np.uint8]) -> None:
    Image.fromarray(grey).save(file, format="PNG", optimize=False)


def _write_nifti(file: BinaryIO, slices: NDArray[Any], scan: Scan) -> None:
    image = _on_source_grid(slices, scan.grid) if isinstance(scan.grid, NiftiGrid) else _plain(slices, scan)
    # No name and no time in the gzip header: equal masks are equal files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as zipped:
        zipped.write(image.to_bytes())


def _on_source_grid(slices: NDArray[Any], grid: NiftiGrid) -> Any:
    import nibabel as nib

    header = grid.header.copy()
    header.extensions.clear()
    header.set_data_dtype(slices.dtype)
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        if text in header:
            header[text] = b""
    for number in ("intent_code", "intent_p1", "intent_p2", "intent_p3", "cal_min", "cal_max"):
        header[number] = 0
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # affine=None leaves the header's sform and qform as they are; any other value may be rounded into them.
    return kind(np.ascontiguousarray(grid.to_source(slices)), None, header)


def _plain(slices: NDArray[Any], scan: Scan) -> Any:
    """Column, row and slice as the three voxel axes, in the directions in which axial slices are read."""
    import nibabel as nib

    depth, row, column = scan.spacing or (1.0, 1.0, 1.0)
    return nib.Nifti1Image(slices.transpose(2, 1, 0), np.diag([-column, -row, depth, 1.0]))

"""Masks and maps to files, on the grid of the scan that they are of; a format is one more `Writer`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lexiseg.files import atomic_write
from lexiseg.io.names import safe_id
from lexiseg.io.nifti import nifti_bytes
from lexiseg.values.masks import Mask
from lexiseg.values.scans import Image, Scan, Volume


@runtime_checkable
class Writer(Protocol):
    """Writes one file format.

    Equal arrays of equal scans give equal bytes.
    """

    suffix: str
    """The end of the files' names, with its dot."""

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """The file of a mask: labels of the scan's shape, 0 being background."""
        ...

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """The file of a map: float32 in [0, 1], or bool, of the scan's shape."""
        ...


class PngWriter:
    """8-bit grey PNG of an image's size; a mask of one target holds 0 and 255, a label map its labels."""

    suffix = ".png"

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `Writer.mask`."""
        return _png(labels)

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """See `Writer.map`; 0 to 255."""
        return _png(np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8))


class NiftiWriter:
    """NIfTI on the volume's own voxels: uint8 masks and regions, float32 maps."""

    suffix = ".nii.gz"

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `Writer.mask`."""
        assert isinstance(scan, Volume)
        return nifti_bytes(labels, scan)

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """See `Writer.map`."""
        assert isinstance(scan, Volume)
        return nifti_bytes(values.astype(np.uint8 if values.dtype == np.bool_ else np.float32), scan)


WRITERS: dict[str, Writer] = {"png": PngWriter(), "nifti": NiftiWriter()}
"""Format -> writer."""


def writer_of(scan: Scan) -> Writer:
    """The writer of a scan's kind: PNG for images, NIfTI for volumes."""
    return WRITERS["png" if isinstance(scan, Image) else "nifti"]


def write_mask(
    mask: Mask | NDArray[np.uint8] | NDArray[np.bool_],
    scan: Scan,
    folder: str | Path,
    *,
    stem: str | None = None,
    slug: str = "",
) -> Path:
    """Write a mask beside others of its run: STEM_mask.png of an image, STEM_mask.nii.gz of a volume.

    - An image's mask is an 8-bit grey PNG of the scan's size, 0 and 255 (any phrase). With several phrases
      there is also STEM_labels.png, where k is the k-th phrase and 0 background.
    - A volume's mask is uint8 NIfTI, 0 and 1 for one phrase, label values for several, on the source's voxels.

    Equal masks give equal bytes. Files are written in one step (see `atomic_write`).

    Args:
        mask: a Mask, or an array of the shape of `scan.shape`: bool, or uint8 labels. There are several
            phrases when a Mask has several names, or an array a value above 1.
        scan: the scan that the mask is of.
        folder: where to; made if missing.
        stem: the name's beginning; `safe_id(scan.id)` when None.
        slug: of one phrase of several, whose own mask it is: STEM_mask_SLUG; "" for the mask of all.

    Returns:
        The path of STEM_mask.png or STEM_mask.nii.gz.

    Raises:
        TypeError: the array is neither bool nor uint8.
        ValueError: its shape is not the scan's.
        UnwritableResult: the file system refused.

    Example:
        >>> scan = lexiseg.read_scan("scan.png")
        >>> write_mask(scan.pixels > 0.5, scan, "masks").name
        'scan_mask.png'
    """
    given: NDArray[Any] = mask.labels if isinstance(mask, Mask) else mask
    if given.dtype not in (np.uint8, np.bool_):
        raise TypeError(f"the mask is {given.dtype}, expected uint8 or bool")
    if given.shape != scan.shape:
        raise ValueError(f"the mask has shape {given.shape}, expected the scan's {scan.shape}")
    labels: NDArray[np.uint8] = given.astype(np.uint8)
    several = len(mask.names) > 1 if isinstance(mask, Mask) else bool(labels.max() > 1)
    base = Path(folder) / (safe_id(scan.id) if stem is None else stem)
    kind = f"mask_{slug}" if slug else "mask"
    if isinstance(scan, Volume):
        return _write(base, kind, writer_of(scan), labels if several else (labels > 0).astype(np.uint8), scan)
    if several:
        _write(base, "labels", writer_of(scan), labels, scan)
    return _write(base, kind, writer_of(scan), np.where(labels > 0, np.uint8(255), np.uint8(0)), scan)


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
    writer = writer_of(scan)
    content = writer.map(values, scan)
    return atomic_write(Path(folder) / f"{stem}_{kind}{writer.suffix}", lambda file: file.write(content))


def _write(base: Path, kind: str, writer: Writer, labels: NDArray[np.uint8], scan: Scan) -> Path:
    content = writer.mask(labels, scan)
    return atomic_write(base.with_name(f"{base.name}_{kind}{writer.suffix}"), lambda file: file.write(content))


def _png(grey: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(grey).save(file, format="PNG", optimize=False)
    return file.getvalue()

"""Masks and maps to files; a format is one more `Writer`, and one more line in `WRITERS`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import FormatMismatch, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.names import safe_id
from lexiseg.io.segments import Segments, WriteOptions
from lexiseg.values.masks import Mask
from lexiseg.values.scans import Image, Scan

WRITERS = {
    "png": "lexiseg.io.write_grids:PngWriter",
    "nifti": "lexiseg.io.write_grids:NiftiWriter",
    "nrrd": "lexiseg.io.write_grids:NrrdWriter",
    "dicom-seg": "lexiseg.io.dicom.seg:SegWriter",
    "rtstruct": "lexiseg.io.dicom.rtstruct:RtstructWriter",
    "stl": "lexiseg.io.surface:StlWriter",
}
"""Format -> "module:class", imported when it is asked for."""


@runtime_checkable
class Writer(Protocol):
    """Writes one file format.

    Equal masks of equal scans give equal bytes: no file holds the time of writing, a path or a random number.
    """

    suffix: str
    """The end of the files' names, with its dot."""

    def why_not(self, scan: Scan) -> str:
        """Why the format cannot hold masks of a scan, in a few words; "" where it can."""
        ...

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """Each file's end, such as "mask" or "mask_left-lung", and its content; the mask of all targets last.

        Args:
            segments: of a scan for which `why_not` is "".
            options: see `WriteOptions`.
            notes: gets what a person should know of these files, by name: no patient data.

        Raises:
            FormatMismatch: the format cannot hold the scan after all; the reason alone.
        """
        ...


@runtime_checkable
class GridWriter(Writer, Protocol):
    """Writes arrays on the scan's own grid."""

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """The file of a mask: labels of the scan's shape, 0 being background."""
        ...

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """The file of a map: float32 in [0, 1], or bool, of the scan's shape."""
        ...


def writer_of(format: str) -> Writer:
    """The writer of a format.

    Raises:
        UsageError: there is no such format.

    Example:
        >>> writer_of("nrrd").suffix
        '.nrrd'
    """
    if format not in WRITERS:
        raise UsageError(f"there is no format {format!r}; expected one of {', '.join(WRITERS)}")
    module, _, name = WRITERS[format].partition(":")
    found: Writer = getattr(importlib.import_module(module), name)()
    return found


def default_formats(scan: Scan) -> tuple[str, ...]:
    """What is written of a scan where nobody says.

    PNG of images; NIfTI of volumes, with DICOM SEG where the volume is a DICOM series, and with NRRD where it was
    NRRD or MetaImage.
    """
    if isinstance(scan, Image):
        return ("png",)
    if isinstance(scan.header, DicomInstances):
        return ("nifti", "dicom-seg")
    return ("nrrd", "nifti") if scan.notes.get("format") in ("NRRD", "MetaImage") else ("nifti",)


def grid_writer_of(scan: Scan, formats: Sequence[str] = ()) -> GridWriter | None:
    """The writer of maps: the first of some formats that holds arrays and this scan, else of the default ones.

    Args:
        scan: what the maps are of.
        formats: that were asked for.

    Returns:
        None where no format can hold arrays on the scan's grid.
    """
    for each in (*formats, *default_formats(scan), "png", "nifti", "nrrd"):
        writer = writer_of(each)
        if isinstance(writer, GridWriter) and not writer.why_not(scan):
            return writer
    return None


def write_mask(
    mask: Mask | NDArray[np.uint8] | NDArray[np.bool_],
    scan: Scan,
    folder: str | Path,
    *,
    stem: str | None = None,
    slug: str = "",
    format: str | None = None,
) -> Path:
    """Write a mask on the scan's grid: STEM_mask.png of an image, STEM_mask.nii.gz of a volume.

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
        format: "png", "nifti" or "nrrd"; the scan's own kind when None.

    Returns:
        The path of the mask.

    Raises:
        TypeError: the array is neither bool nor uint8.
        ValueError: its shape is not the scan's.
        UsageError: the format holds no arrays.
        FormatMismatch: the format cannot hold this scan, such as NIfTI slices of unequal distance.
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
    chosen = format or ("png" if isinstance(scan, Image) else "nifti")
    writer = writer_of(chosen)
    if not isinstance(writer, GridWriter):
        raise UsageError(f"the format {chosen} holds no arrays; expected png, nifti or nrrd")
    if reason := writer.why_not(scan):
        raise FormatMismatch(f"{scan.id}: {chosen} cannot hold its mask: {reason}")
    labels: NDArray[np.uint8] = given.astype(np.uint8)
    several = len(mask.names) > 1 if isinstance(mask, Mask) else bool(labels.max() > 1)
    base = Path(folder) / (safe_id(scan.id) if stem is None else stem)
    kind = f"mask_{slug}" if slug else "mask"
    if not isinstance(scan, Image):
        return _write(base, kind, writer, labels if several else (labels > 0).astype(np.uint8), scan)
    if several:
        _write(base, "labels", writer, labels, scan)
    return _write(base, kind, writer, np.where(labels > 0, np.uint8(255), np.uint8(0)), scan)


def write_map(
    values: NDArray[np.float32] | NDArray[np.bool_],
    scan: Scan,
    folder: str | Path,
    *,
    stem: str,
    kind: str,
    formats: Sequence[str] = (),
) -> Path:
    """Write what a stage made of a scan on the scan's grid: STEM_KIND.png, or STEM_KIND.nii.gz of a volume.

    Args:
        values: the shape of `scan.shape`; float32 in [0, 1] (a saliency), or bool (a region). A PNG
            holds 0 to 255; a NIfTI holds float32, or uint8 0 and 1.
        scan: the scan that it is of.
        folder: where to; made if missing.
        stem: the name's beginning.
        kind: the name's end, such as "saliency".
        formats: of which the first that can hold it is taken.

    Returns:
        The path.

    Raises:
        ValueError: the shape is not the scan's.
        FormatMismatch: no format can hold arrays of this scan.
        UnwritableResult: the file system refused.
    """
    if values.shape != scan.shape:
        raise ValueError(f"the map has shape {values.shape}, expected the scan's {scan.shape}")
    writer = grid_writer_of(scan, formats)
    if writer is None:
        raise FormatMismatch(f"{scan.id}: no format holds arrays of slices whose distances are not equal")
    content = writer.map(values, scan)
    return atomic_write(Path(folder) / f"{stem}_{kind}{writer.suffix}", lambda file: file.write(content))


def _write(base: Path, kind: str, writer: GridWriter, labels: NDArray[np.uint8], scan: Scan) -> Path:
    content = writer.mask(labels, scan)
    return atomic_write(base.with_name(f"{base.name}_{kind}{writer.suffix}"), lambda file: file.write(content))

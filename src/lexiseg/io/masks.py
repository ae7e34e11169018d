"""True masks, predictions and masks of earlier runs: one reader for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.placed import grid_of, is_placed, read_placed, series_uid
from lexiseg.io.dicom.reader import DicomReader, stored_frame
from lexiseg.io.images import open_image
from lexiseg.io.itk import MetaReader, NrrdReader
from lexiseg.io.mask_choices import GREY, Decided, Held, Paint, Side, are_colours, decide
from lexiseg.io.mask_grids import turn_onto
from lexiseg.io.mask_levels import Kind, Levels, look_at
from lexiseg.io.mask_pictures import INDICES, ONE_COLOUR, drawn, one_value_each
from lexiseg.io.names import image_format
from lexiseg.io.nifti import NiftiHeader, NiftiReader, open_volume, read_voxels
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume


@dataclass(frozen=True, eq=False)
class Stored:
    """Values of a file on their grid.

    Attributes:
        values: (H, W) of an image or DICOM, (D, H, W) of NIfTI or NRRD, scaled by its header: grey levels, labels, a
            palette's indices, alpha, the brightest channel of one colour, or colours.
        path: the file.
        geometry: where a volume's voxels lie; None for images.
        header: what a writer of the same voxels repeats; None for images.
        lossy: whether compression changed the values, as JPEG's does.
        paint: what colours the values stand for.
        one_bit: whether the file has one bit a pixel.
        notes: what was decided on reading.
    """

    values: NDArray[Any]
    path: Path
    geometry: Geometry | None = None
    header: NiftiHeader | None = None
    lossy: bool = False
    paint: Paint = GREY
    one_bit: bool = False
    notes: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """mm along each axis of `values`; None where the file does not say."""
        return self.geometry.spacing if self.geometry is not None else None

    @cached_property
    def levels(self) -> Levels:
        """What the values are: a mask, one with soft edges, or several things."""
        return look_at(self.values, lossy=self.lossy, colours=self.paint.packed)

    @property
    def held(self) -> Held:
        """What the file holds, for choosing of it."""
        return Held(self.values, self.levels, self.paint, lossy=self.lossy, one_bit=self.one_bit)

    def decided(self, labels: Sequence[int] = (), side: Side = Side.maps) -> Decided:
        """The mask that the file holds, and what was decided.

        A file of 0 and one other value is a mask. Soft edges are cut at half of the maximum. Of more values some
        must be chosen.

        Args:
            labels: what is inside, of a file of several values; a `Colour` of a picture's colours.
            side: what is known of the masks that it lies among.

        Raises:
            UnreadableScan: there are several values and none was chosen, or a colour is wanted of a grey file; one
                line that begins with the file's name.
        """
        with reading(self.path):
            found = decide(self.held, labels=labels, side=side)
        passed_over = (INDICES, ONE_COLOUR) if are_colours(labels) else ()
        return Decided(found.mask, (*(note for note in self.notes if note not in passed_over), *found.notes))

    def inside(self) -> BoolArray:
        """bool, the shape of `values`: everything that is not background, whatever label it has."""
        if self.levels.kind is Kind.soft:
            return np.ascontiguousarray(self.values >= self.levels.cut)
        return np.ascontiguousarray(self.values > 0)


def read_stored(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS) -> Stored:
    """Read the values of a mask, a label map or a saliency: an image file, NIfTI, NRRD, MetaImage or DICOM
    of one frame.

    What counts of an image is said by `lexiseg.io.mask_pictures.drawn`. NIfTI is read on its own voxels, as
    `read_scan` reads it. Of DICOM the stored values count, without rescale and window; MONOCHROME1 is inverted and
    a palette counts by index.

    Args:
        path: the file.
        max_pixels: as for `read_scan`.
        max_voxels: as for `read_scan`.

    Raises:
        UnreadableScan: as for `read_scan`, but a flat file is no error.
    """
    path = Path(path)
    with reading(path):
        head = regular_head(path)
        if DicomReader().can_read(head, path):
            return _of_dicom(path, max_pixels)
        if image_format(head):
            with open_image(path, max_pixels) as (image, head):
                found = drawn(image, head)
            return Stored(
                found.values,
                path,
                lossy=found.lossy,
                paint=found.paint,
                one_bit=found.one_bit,
                notes=found.notes,
            )
        for reader in (NrrdReader(), MetaReader()):
            if reader.can_read(head, path):
                values, geometry, decided = reader.voxels(path, max_voxels)
                return Stored(values, path, geometry, notes=tuple(decided.values()))
        if NiftiReader().can_read(head, path):
            with open_volume(path, max_voxels) as volume:
                values, geometry, header = read_voxels(volume)
            return Stored(values, path, geometry, header)
        raise UnreadableScan("its content is no image, NIfTI, NRRD, MetaImage or DICOM; expected a mask as PNG, NIfTI")


def _of_dicom(path: Path, max_pixels: int) -> Stored:
    values, dataset = stored_frame(path, max_pixels)
    lossy = str(dataset.get("LossyImageCompression") or "") == "01"
    if values.ndim == 3:
        found = one_value_each(values[..., :3].astype(np.uint8), lossy=lossy)
        return Stored(found.values, path, lossy=lossy, paint=found.paint, notes=found.notes)
    notes: tuple[str, ...] = ()
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        notes = (INDICES,)
    elif dataset.PhotometricInterpretation == "MONOCHROME1":
        signed = values.dtype.kind == "i"
        # The sum of the smallest and the largest value that the stored bits hold.
        both_ends = -1 if signed else 2 ** int(dataset.BitsStored) - 1
        values, notes = both_ends - values.astype(np.int64), ("MONOCHROME1, white is zero: inverted",)
    return Stored(values, path, lossy=lossy, one_bit=int(dataset.BitsStored) == 1, notes=notes)


def read_mask(
    path: str | Path,
    scan: Scan | None = None,
    *,
    label: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_voxels: int = MAX_VOXELS,
) -> BoolArray:
    """Read a mask from an image file, NIfTI, NRRD, DICOM SEG, RT structure set or DICOM of one frame.

    See `Stored.decided` for what is inside. A volume that is stored mirrored or with its axes permuted is turned onto
    the scan's voxels, by the affines. A SEG leaves empty frames out and a structure set holds contours, so that their
    scan must be given. Unlike a scan, a mask may be empty.

    Args:
        path: the file.
        scan: the scan that the mask is of; when given, the grids must agree: for volumes by `turn_onto`.
        label: what is inside, where a file holds more than 0 and one other value; of a SEG or a structure set
            the target's number.
        max_pixels: as for `read_scan`.
        max_voxels: as for `read_scan`.

    Returns:
        bool (H, W), or (D, H, W) of NIfTI.

    Raises:
        UnreadableScan: as for `read_scan`, or the mask is not on the scan's grid, or it holds several values of which
            none was chosen.

    Example:
        >>> read_mask("mask.png").dtype
        dtype('bool')
    """
    path = Path(path)
    if is_placed(path):
        placed = read_placed(path, max_pixels=max_pixels, max_voxels=max_voxels)
        if scan is None:
            with reading(path):
                raise UnreadableScan(f"it is a {placed.WHAT}, which holds no grid of its own; give its scan too")

        numbers = placed.numbers(() if label is None else (label,))
        return placed.onto(numbers, scan.shape, grid_of(scan), series=series_uid(scan))
    stored = read_stored(path, max_pixels=max_pixels, max_voxels=max_voxels)
    mask = stored.decided(() if label is None else (label,)).mask
    with reading(path):
        if stored.geometry is not None and isinstance(scan, Volume):
            return np.ascontiguousarray(turn_onto(stored.geometry, scan.geometry).apply(mask))
        if scan is not None and mask.shape != scan.shape:
            raise UnreadableScan(f"its shape is {mask.shape}, its scan's is {scan.shape}; expected the same")
        return mask

"""DICOM through pydicom: one file at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.dicom.fields import integer_of, usable
from lexiseg.io.dicom.files import (
    BARE_STARTS,
    SEGMENTATION_CLASSES,
    ensure_transfer_syntax,
    read_dataset,
    read_header,
    refuse_large,
    refuse_mismatched_frames,
    refuse_no_image,
    undecodable,
)
from lexiseg.io.dicom.headers import dicom_header, header_of
from lexiseg.io.dicom.image import image_of
from lexiseg.io.dicom.scan import describe_series, read_series, the_only
from lexiseg.io.dicom.series import series_of
from lexiseg.io.names import DICOM_SUFFIXES, is_dicom, scan_suffix
from lexiseg.io.read import ReadOptions
from lexiseg.values.scans import Scan

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class DicomReader:
    """Reads one DICOM file: of one frame as an image, of several as a volume or a film.

    A frame becomes grey (H, W) or RGB (H, W, 3) as a viewer would show it, in the order of PS3.4 N.2: modality LUT
    or rescale; VOI LUT, else the file's first window, else the 0.5 and 99.5 percentiles; MONOCHROME1 inverted, as
    viewers show it. Padding is black and does not count for percentiles. YBR and palette colour become RGB.
    `spacing` is in mm, (row, column).

    Several frames with positions are a volume, see `lexiseg.io.dicom.stacks.stacks_of`; without them they are a film,
    whose frames have no distance. Values are those of `lexiseg.io.dicom.volume.read_stack`.

    Segmentations, doses and objects without pixels are refused with their reason.
    """

    name = "DICOM"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True with a DICOM preamble, or without one for a DICOM name and a plausible first element."""
        return is_dicom(head) or (
            scan_suffix(path) in (*DICOM_SUFFIXES, "") and head.startswith(BARE_STARTS) and len(head) >= 8
        )

    def read(self, path: Path, options: ReadOptions) -> Scan:
        """See `Reader.read`."""
        header = read_header(path)
        refuse_no_image(header)
        refuse_large(integer_of(header, "Rows") or 0, integer_of(header, "Columns") or 0, options.max_pixels)
        found = header_of(header, path)
        if found.count > 1 or found.mosaic:
            return read_series(the_only(series_of([found])), options)
        return image_of(read_dataset(path, options.max_pixels), options.id, source=path)

    def describe(self, path: Path, options: ReadOptions) -> Description:
        """See `Reader.describe`."""
        found = dicom_header(path)
        refuse_large(found.rows, found.columns, options.max_pixels)
        return describe_series(the_only(series_of([found])), options)


def stored_frame(path: Path, max_pixels: int) -> tuple[NDArray[Any], Dataset]:
    """The stored values of a file of one frame, (H, W) or (H, W, 3), with its dataset; nothing is done to them.

    Bits above those that are stored (of old overlays) are left out.

    Raises:
        UnreadableScan: as of `DicomReader.read`; the reason alone.
    """
    from pydicom.pixels import pixel_array

    header = read_header(path)
    if header.get("SOPClassUID") in SEGMENTATION_CLASSES:
        raise UnreadableScan("it is a DICOM SEG, whose place needs its scan; save it as PNG or NIfTI")
    refuse_no_image(header)
    refuse_large(integer_of(header, "Rows") or 0, integer_of(header, "Columns") or 0, max_pixels)
    frames = integer_of(header, "NumberOfFrames") or 1
    if frames > 1:
        raise UnreadableScan(f"it holds {frames} frames; expected a mask of one")
    dataset, _ = usable(read_dataset(path, max_pixels))
    ensure_transfer_syntax(dataset)
    refuse_mismatched_frames(dataset)
    try:
        values: NDArray[Any] = pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:
        raise undecodable(dataset.file_meta.TransferSyntaxUID) from error
    if values.ndim == 2 and values.dtype.kind == "u":
        values = values & values.dtype.type(2 ** int(dataset.BitsStored) - 1)
    return values, dataset

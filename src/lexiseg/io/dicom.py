"""Single-frame DICOM through pydicom."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom_display import colour_pixels, grey_pixels
from lexiseg.io.dicom_fields import integer_of, usable, value_of
from lexiseg.io.intensities import refuse_flat
from lexiseg.io.names import DICOM_SUFFIXES, HEAD_BYTES, is_dicom, jpeg_frame, scan_suffix
from lexiseg.io.read import ReadOptions
from lexiseg.values.scans import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


_JPEG = b"\xff\xd8"
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG, JPEG-LS or JPEG 2000 frame; None for another coding, such as RLE.

    Raises:
        ValueError: it begins as one of these, and ends before its size.
    """
    if frame.startswith(_JPEG):
        found = jpeg_frame(frame)
        return found.width, found.height
    start = frame.find(_CODESTREAM) if frame.startswith(_JP2) else 0
    if start < 0 or not frame.startswith(_CODESTREAM, start):
        return None
    if len(frame) < start + 24:
        raise ValueError("the JPEG 2000 codestream ends before its size")
    # SIZ (T.800 A.5.1): marker 2, length 2, capabilities 2; then the grid's far and near corner.
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    return right - left, bottom - top


_CENTIMETRES = 3
_PROJECTED = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    """(row, column) spacing in mm, with a note on where it is from when that matters.

    Pixel Spacing first; then the detector's (without the magnification known, so larger than in the patient);
    then, for ultrasound, the one calibrated region's physical deltas.

    Args:
        dataset: a single-frame image's dataset.

    Returns:
        The spacing, None where the file does not say or says nonsense; and a note, "" for Pixel Spacing.
    """
    spacing = _positive(dataset.get("PixelSpacing"))
    if spacing:
        return spacing, ""
    for keyword in _PROJECTED:
        spacing = _positive(dataset.get(keyword))
        if spacing:
            return spacing, f"{keyword}: at the detector, not in the patient"
    regions = value_of(dataset, "SequenceOfUltrasoundRegions") or []
    if len(regions) == 1:
        region = regions[0]
        units = (integer_of(region, "PhysicalUnitsXDirection"), integer_of(region, "PhysicalUnitsYDirection"))
        deltas = _positive([value_of(region, "PhysicalDeltaY"), value_of(region, "PhysicalDeltaX")], size=True)
        if units == (_CENTIMETRES, _CENTIMETRES) and deltas:
            return (10 * deltas[0], 10 * deltas[1]), "ultrasound region calibration"
    return None, ""


def _positive(values: object, *, size: bool = False) -> tuple[float, float] | None:
    """Two lengths above 0, or their sizes; None of anything else."""
    try:
        row, column = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    if size:
        row, column = abs(row), abs(column)
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None


_SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
# A file without preamble begins with an element of group 0002 or 0008, little endian or (retired) big.
_BARE_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
# What a pixel may take in the file: four 16-bit samples, and as much again for everything else.
_BYTES_PER_PIXEL = 16
_ROOM = 2**24
# Preamble, "DICM" and the group length element, after which that length is counted.
_META_START = 132 + 12
_DEFLATED = b"1.2.840.10008.1.2.1.99"


class DicomReader:
    """Reads DICOM files of one frame into grey (H, W) or RGB (H, W, 3) as a viewer would show them.

    In the order of PS3.4 N.2: modality LUT or rescale; VOI LUT, else the file's first window, else the 0.5
    and 99.5 percentiles; MONOCHROME1 inverted, as viewers show it. Padding is black and does not count for
    percentiles. YBR and palette colour become RGB. `spacing` is in mm, (row, column).

    Files of several frames, segmentations and objects without pixels are refused with their reason.
    """

    name = "DICOM"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True with a DICOM preamble, or without one for a DICOM name and a plausible first element."""
        return is_dicom(head) or (
            scan_suffix(path) in (*DICOM_SUFFIXES, "") and head.startswith(_BARE_STARTS) and len(head) >= 8
        )

    def read(self, path: Path, options: ReadOptions) -> Image:
        """See `Reader.read`."""
        # Here, because importing pydicom takes 0.4 s and most runs read no DICOM.
        import pydicom

        content = _content(path, options.max_pixels)
        header = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=True)
        _refuse_unfit(header, options.max_pixels)
        return image_of(pydicom.dcmread(io.BytesIO(content), force=True), options.id, source=path)


def image_of(dataset: Dataset, id: str, *, source: Path | None = None) -> Image:
    """A dataset of one frame as an image.

    Raises:
        UnreadableScan: it holds no image of one frame, or its pixels cannot be decoded; the reason alone.
    """
    from pydicom.pixels import pixel_array

    _refuse_kind(dataset)
    dataset, decided = usable(dataset)
    _ensure_transfer_syntax(dataset)
    _refuse_mismatched_frame(dataset)
    try:
        stored: NDArray[Any] = pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID
        raise UnreadableScan(f"its pixels ({syntax.name}) cannot be decoded here; export it uncompressed") from error
    notes = {"format": DicomReader.name, "photometric": str(dataset.PhotometricInterpretation), **decided}
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels, native = colour_pixels(stored, dataset, notes), None
    else:
        grey = grey_pixels(stored, dataset)
        pixels, native = grey.shown, grey.native
        notes.update(grey.notes)
    refuse_flat(pixels)
    spacing, origin = pixel_spacing(dataset)
    if origin:
        notes["spacing"] = origin
    return Image(
        pixels=pixels,
        id=id,
        spacing=spacing,
        native=native,
        unit=_unit(dataset),
        source=source,
        notes=notes,
    )


def _unit(dataset: Dataset) -> str:
    """Hounsfield units of a CT that was rescaled; without a rescale, nobody knows what its numbers are."""
    named = str(value_of(dataset, "RescaleType") or "HU").strip().upper()
    return "HU" if value_of(dataset, "Modality") == "CT" and "RescaleIntercept" in dataset and named == "HU" else ""


def _too_large(limit: int) -> str:
    return f"it holds more than {limit} bytes, too much for one frame; resize it or raise max_pixels"


def _content(path: Path, max_pixels: int) -> bytes:
    """A file to be read from memory: of a file on disk, pydicom allocates whatever length an element claims."""
    limit = max_pixels * _BYTES_PER_PIXEL + _ROOM
    if path.stat().st_size > limit:
        raise UnreadableScan(_too_large(limit))
    content = path.read_bytes()
    _refuse_inflated(content, limit)
    return content


def _refuse_inflated(content: bytes, limit: int) -> None:
    """Bound what reading a file can take of which all is compressed (the deflated syntax)."""
    if not is_dicom(content) or _DEFLATED not in content[:HEAD_BYTES]:
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    chunk = content[_META_START + int.from_bytes(content[_META_START - 4 : _META_START], "little") :]
    while chunk and not inflate.eof:
        total += len(inflate.decompress(chunk, 2**20))
        chunk = inflate.unconsumed_tail
        if total > limit:
            raise UnreadableScan(_too_large(limit))


def _refuse_unfit(header: Dataset, max_pixels: int) -> None:
    _refuse_kind(header)
    rows, columns = integer_of(header, "Rows") or 0, integer_of(header, "Columns") or 0
    if rows * columns > max_pixels:
        raise UnreadableScan(
            f"its size is {columns} x {rows} pixels, over the limit of {max_pixels}; resize it or raise max_pixels"
        )


def _refuse_kind(header: Dataset) -> None:
    """Pass images of one frame."""
    if header.get("SOPClassUID") == _SEGMENTATION_CLASS:
        raise UnreadableScan("it is a DICOM segmentation, not an image; pass the image it was drawn on")
    rows, columns = integer_of(header, "Rows"), integer_of(header, "Columns")
    if rows is None or columns is None:
        raise UnreadableScan("it holds no image: another kind of DICOM object, or cut off before its pixels")
    if rows < 1 or columns < 1:
        raise UnreadableScan(f"its size is {columns} x {rows} pixels; expected at least 1 x 1")
    frames = integer_of(header, "NumberOfFrames") or 1
    if frames > 1:
        raise UnreadableScan(
            f"it holds {frames} frames; only single-frame DICOM is read so far: export the frames one by one"
        )


def _ensure_transfer_syntax(dataset: Dataset) -> None:
    """Files without a preamble carry no transfer syntax: take the encoding they were parsed with."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _refuse_mismatched_frame(dataset: Dataset) -> None:
    """A compressed frame allocates by its own header, so that header must agree with Rows and Columns."""
    from pydicom.encaps import get_frame

    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or "PixelData" not in dataset:
        return
    size = frame_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if size is not None and size != (dataset.Columns, dataset.Rows):
        raise UnreadableScan(
            f"its compressed frame is {size[0]} x {size[1]} pixels, its header says "
            f"{dataset.Columns} x {dataset.Rows}; export it again"
        )


def stored_frame(path: Path, max_pixels: int) -> tuple[NDArray[Any], Dataset]:
    """The stored values of a file of one frame, (H, W) or (H, W, 3), with its dataset; nothing is done to them.

    Bits above those that are stored (of old overlays) are left out.

    Raises:
        UnreadableScan: as of `DicomReader.read`; the reason alone.
    """
    import pydicom
    from pydicom.pixels import pixel_array

    content = _content(path, max_pixels)
    header = pydicom.dcmread(io.BytesIO(content), force=True, stop_before_pixels=True)
    if header.get("SOPClassUID") == _SEGMENTATION_CLASS:
        raise UnreadableScan("it is a DICOM segmentation object, which is not read; save it as PNG or NIfTI")
    _refuse_unfit(header, max_pixels)
    dataset, _ = usable(pydicom.dcmread(io.BytesIO(content), force=True))
    _ensure_transfer_syntax(dataset)
    _refuse_mismatched_frame(dataset)
    values: NDArray[Any] = pixel_array(dataset)
    if values.ndim == 2 and values.dtype.kind == "u":
        values = values & values.dtype.type(2 ** int(dataset.BitsStored) - 1)
    return values, dataset

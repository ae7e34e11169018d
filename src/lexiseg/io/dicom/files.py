"""DICOM files: what they are by their first bytes, and opened with care: nothing is allocated for what is claimed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.fields import integer_of, value_of
from lexiseg.io.names import HEAD_BYTES, is_dicom, jpeg_frame
from lexiseg.io.read import CappedFile

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOMDIR = "DICOMDIR"
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The transfer syntax of which all after the file meta group is compressed."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SEGMENTATION_CLASSES = (f"{_STORAGE}66.4", f"{_STORAGE}66.7")
"""Of binary and fractional segmentations, and of label maps."""
# Objects beside the images of a study (PS3.4 B.5), by the beginning of their SOP class.
_BESIDE_IMAGES = {
    DICOMDIR_CLASS: DICOMDIR,
    f"{_STORAGE}9.": "waveform",
    f"{_STORAGE}11.": "presentation state",
    f"{_STORAGE}66": "segmentation, registration or raw data object",
    f"{_STORAGE}88.": "structured report",
    f"{_STORAGE}104.": "encapsulated document",
    f"{_STORAGE}481.2": "radiotherapy dose",
    f"{_STORAGE}481.3": "radiotherapy structure set",
    f"{_STORAGE}481.": "radiotherapy object",
}
_RADIOTHERAPY_IMAGE = f"{_STORAGE}481.1"
# A file without preamble begins with an element of group 0002 or 0008, little endian or (retired) big.
BARE_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
_PREAMBLE = 132
_JPEG = b"\xff\xd8"
_CODESTREAM = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
"""What ends a JPEG, JPEG-LS and JPEG 2000 stream; it cannot stand in one's data."""
_PADDING = 64
"""Bytes, at most, that a file may hold after it."""
_JP2 = b"\0\0\0\x0cjP  "
# What a pixel may take in the file: four 16-bit samples, and as much again for everything else.
_BYTES_PER_PIXEL = 16
_ROOM = 2**24
# Preamble, "DICM" and the group length element, after which that length is counted.
_META_START = 132 + 12
# In most files the header ends before this.
_HEADER = 2**16


class Frame(NamedTuple):
    """One frame of a file: `number` counts from 0, and is 0 in a file of one frame."""

    file: Path
    number: int


@dataclass(frozen=True)
class DicomInstances:
    """The files and frames of a scan, slice by slice.

    Attributes:
        frames: one for each slice (array axis 0) of a volume, in its order, one of an image; None where a slice is
            missing in the series and was filled in.
        keep: what must live as long as the files are needed, such as the folder that a zip was extracted to.
    """

    frames: tuple[Frame | None, ...]
    keep: Any = field(default=None, repr=False, compare=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Each file once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames if frame is not None))

    def headers(self) -> Iterator[Dataset]:
        """The dataset of each file without its pixels, in the order of `files`.

        Raises:
            OSError: a file is gone.
        """
        import pydicom

        return (pydicom.dcmread(file, force=True, stop_before_pixels=True) for file in self.files)


def kind_of(sop_class: str) -> str:
    """The kind of an object that is no image, in words; "" for images, and for classes that nobody knows."""
    if sop_class == _RADIOTHERAPY_IMAGE:
        return ""
    return next((kind for start, kind in _BESIDE_IMAGES.items() if sop_class.startswith(start)), "")


def meta_class(head: bytes) -> str:
    """Media Storage SOP Class UID (0002,0002), which is in explicit little endian always (PS3.10, 7.1)."""
    at = _PREAMBLE
    while head[at : at + 2] == b"\x02\x00":
        long = head[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"UT", b"SQ")
        start = at + (12 if long else 8)
        size = int.from_bytes(head[start - (4 if long else 2) : start], "little")
        if head[at + 2 : at + 4] == b"\x02\x00":
            return head[start : start + size].rstrip(b"\0 ").decode("ascii", "replace")
        at = start + size
    return ""


def is_bare(head: bytes) -> bool:
    """Whether a file may be DICOM without a preamble: a first element of a header's groups, of sensible length."""
    if len(head) < 8 or not head.startswith(BARE_STARTS):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    size = int.from_bytes(head[4:8], "little") if head[0] else int.from_bytes(head[4:8], "big")
    return explicit or size <= HEAD_BYTES


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


def read_header(path: Path, tags: Sequence[str | int] | None = None, *, limit: int = _ROOM) -> Dataset:
    """A file's dataset without its pixels.

    Args:
        path: the file.
        tags: the elements that are wanted; all when None.
        limit: the most bytes that a deflated file may hold.
    """
    import pydicom

    options = {"force": True, "stop_before_pixels": True, "specific_tags": tags}
    with CappedFile(path) as file:
        head = file.read(_HEADER)
        if is_deflated(head):
            return pydicom.dcmread(io.BytesIO(content_of(path, limit)), **options)
        # From memory, which is twice as fast, where the header ends within it.
        begun = io.BytesIO(head)
        try:
            dataset = pydicom.dcmread(begun, **options)
            whole = begun.tell() < len(head) or len(head) < _HEADER
        # What is cut off raises anything; the whole file tells.
        except Exception:  # noqa: BLE001
            whole = False
        if not whole:
            file.seek(0)
            dataset = pydicom.dcmread(file, **options)
    return dataset


def read_dataset(path: Path, voxels: int) -> Dataset:
    """A file's dataset with its pixels.

    Args:
        path: the file.
        voxels: the most pixels, of all frames together, that the file may hold.

    Raises:
        UnreadableScan: it holds more bytes than so many need; the reason alone.
    """
    import pydicom

    with path.open("rb") as begun:
        deflated = is_deflated(begun.read(HEAD_BYTES))
    if deflated:
        return pydicom.dcmread(io.BytesIO(content_of(path, byte_limit(voxels))), force=True)
    if path.stat().st_size > byte_limit(voxels):
        raise UnreadableScan(_too_large(byte_limit(voxels)))
    with CappedFile(path) as file:
        return pydicom.dcmread(file, force=True)


def byte_limit(voxels: int) -> int:
    """The most bytes of a file of so many pixels."""
    return voxels * _BYTES_PER_PIXEL + _ROOM


def content_of(path: Path, limit: int) -> bytes:
    """A file to be read from memory, which holds no more than `limit` bytes, also when it is inflated."""
    if path.stat().st_size > limit:
        raise UnreadableScan(_too_large(limit))
    content = path.read_bytes()
    if is_deflated(content[:HEAD_BYTES]):
        _refuse_inflated(content, limit)
    return content


def is_deflated(head: bytes) -> bool:
    """Whether a file's first bytes name the deflated transfer syntax."""
    return is_dicom(head) and DEFLATED in head[:HEAD_BYTES]


def _too_large(limit: int) -> str:
    told = f"it holds more than {limit} bytes, too much for its pixels"
    return f"{told}; resize it, or in Python read_scan(..., max_pixels=N)"


def _refuse_inflated(content: bytes, limit: int) -> None:
    """Bound what reading a file can take of which all is compressed."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    chunk = content[_META_START + int.from_bytes(content[_META_START - 4 : _META_START], "little") :]
    while chunk and not inflate.eof:
        total += len(inflate.decompress(chunk, 2**20))
        chunk = inflate.unconsumed_tail
        if total > limit:
            raise UnreadableScan(_too_large(limit))


def refuse_no_image(header: Dataset) -> None:
    """Pass images, of one frame or more.

    Raises:
        UnreadableScan: it is another kind of object, or has no size; the reason alone.
    """
    sop_class = str(header.get("SOPClassUID") or "")
    if sop_class in SEGMENTATION_CLASSES:
        raise UnreadableScan("it is a DICOM segmentation, not an image; pass the image it was drawn on")
    if kind := kind_of(sop_class):
        raise UnreadableScan(f"it is no image but a {kind}; pass the images that it belongs to")
    rows, columns = integer_of(header, "Rows"), integer_of(header, "Columns")
    if rows is None or columns is None:
        raise UnreadableScan("it holds no image: another kind of DICOM object, or cut off before its pixels")
    if rows < 1 or columns < 1:
        raise UnreadableScan(f"its size is {columns} x {rows} pixels; expected at least 1 x 1")


def refuse_large(rows: int, columns: int, max_pixels: int) -> None:
    """Pass frames of at most `max_pixels`."""
    if rows * columns > max_pixels:
        raise UnreadableScan(
            f"its size is {columns} x {rows} pixels, over the limit of {max_pixels}; resize it, or in Python "
            "read_scan(..., max_pixels=N)"
        )


def refuse_many(shape: tuple[int, int, int], max_voxels: int) -> None:
    """Pass volumes and films (D, H, W) of at most `max_voxels`."""
    depth, rows, columns = shape
    if depth * rows * columns > max_voxels:
        raise UnreadableScan(
            f"it holds {depth} x {rows} x {columns} voxels, over the limit of {max_voxels}; crop it, or in Python "
            "read_scan(..., max_voxels=N)"
        )


def ensure_transfer_syntax(dataset: Dataset) -> None:
    """Files without a preamble carry no transfer syntax: take the encoding they were parsed with."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def refuse_mismatched_frames(dataset: Dataset) -> None:
    """A compressed frame allocates by its own header, so that header must agree with Rows and Columns.

    And it must be whole: some decoders fill what is cut off, and say nothing.
    """
    from pydicom.encaps import generate_frames

    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or value_of(dataset, "PixelData") is None:
        return
    frames = integer_of(dataset, "NumberOfFrames") or 1
    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=frames)):
        size = frame_size(frame)
        if size is not None and size != (dataset.Columns, dataset.Rows):
            raise UnreadableScan(
                f"its compressed frame is {size[0]} x {size[1]} pixels, its header says "
                f"{dataset.Columns} x {dataset.Rows}; export it again"
            )
        if size is not None and _END not in frame[-_PADDING:]:
            which = f" {number + 1}" if frames > 1 else ""
            raise UnreadableScan(f"its compressed frame{which} is cut off before its end; copy or export it again")


def undecodable(syntax: Any) -> UnreadableScan:
    """Why pixels of a transfer syntax (pydicom's UID) could not be decoded; the reason alone."""
    from pydicom.pixels import get_decoder

    with suppress(NotImplementedError):
        if get_decoder(syntax).is_available:
            return UnreadableScan(
                f"its pixels ({syntax.name}) are damaged, or of a kind that no decoder here knows; copy it again, or "
                "export it uncompressed"
            )
    return UnreadableScan(f"its pixels ({syntax.name}) cannot be decoded here; export it uncompressed")

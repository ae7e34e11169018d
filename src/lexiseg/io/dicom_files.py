"""DICOM files opened with care: nothing is allocated for what a file merely claims."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom_fields import integer_of, value_of
from lexiseg.io.dicom_kinds import DEFLATED, SEGMENTATION_CLASSES, kind_of
from lexiseg.io.names import HEAD_BYTES, is_dicom, jpeg_frame
from lexiseg.io.read import CappedFile

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_JPEG = b"\xff\xd8"
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "
# What a pixel may take in the file: four 16-bit samples, and as much again for everything else.
_BYTES_PER_PIXEL = 16
_ROOM = 2**24
# Preamble, "DICM" and the group length element, after which that length is counted.
_META_START = 132 + 12
# In most files the header ends before this.
_HEADER = 2**16


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
    return f"it holds more than {limit} bytes, too much for its pixels; resize it or raise max_pixels"


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
            f"its size is {columns} x {rows} pixels, over the limit of {max_pixels}; resize it or raise max_pixels"
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
    """A compressed frame allocates by its own header, so that header must agree with Rows and Columns."""
    from pydicom.encaps import generate_frames

    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or value_of(dataset, "PixelData") is None:
        return
    frames = integer_of(dataset, "NumberOfFrames") or 1
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        size = frame_size(frame)
        if size is not None and size != (dataset.Columns, dataset.Rows):
            raise UnreadableScan(
                f"its compressed frame is {size[0]} x {size[1]} pixels, its header says "
                f"{dataset.Columns} x {dataset.Rows}; export it again"
            )

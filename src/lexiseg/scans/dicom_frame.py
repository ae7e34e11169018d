"""The size that a compressed DICOM frame claims, read without decoding it."""

from __future__ import annotations

import struct

_JPEG = b"\xff\xd8"
_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "
# Start-of-frame markers of JPEG (T.81 table B.1: C4, C8 and CC mean other things) and of JPEG-LS (T.87).
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG, JPEG-LS or JPEG 2000 frame; None for another coding, such as RLE.

    Raises:
        ValueError: it begins as one of these, and ends before its size.
    """
    if frame.startswith(_JPEG):
        return _jpeg_size(frame)
    start = frame.find(_CODESTREAM) if frame.startswith(_JP2) else 0
    if start < 0 or not frame.startswith(_CODESTREAM, start):
        return None
    if len(frame) < start + 24:
        raise ValueError("the JPEG 2000 codestream ends before its size")
    # SIZ (T.800 A.5.1): marker 2, length 2, capabilities 2; then the grid's far and near corner.
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    return right - left, bottom - top


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">2H", frame, at + 5)
            return width, height
        # Fill bytes and markers without a segment (TEM, RSTn, SOI) stand alone.
        alone = marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if alone else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("the JPEG stream has no frame header")

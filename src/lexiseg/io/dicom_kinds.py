"""What a DICOM file is by its first bytes and its SOP class, before anything of it is parsed."""

from __future__ import annotations

from lexiseg.io.names import HEAD_BYTES

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

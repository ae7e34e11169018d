"""The file formats that are read, by the end of a name and by the first bytes."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
SCAN_SUFFIXES = IMAGE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES

HEAD_BYTES = 4096
"""How much of a file's beginning is enough to tell its format."""


def scan_suffix(path: str | Path) -> str:
    """The known suffix that a name ends in, lower case (".nii.gz", not ".gz"); "" where there is none."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SCAN_SUFFIXES if name.endswith(suffix)), "")


def image_format(head: bytes) -> str | None:
    """Pillow's name of the image format that a file's first bytes announce; None for anything else."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM"):
        return "BMP"
    return None


def is_dicom(head: bytes) -> bool:
    """True for a DICOM file with its 128-byte preamble (PS3.10, 7.1)."""
    return head[128:132] == b"DICM"

"""Which files are scans by name and beginning, and the names of what is made from them."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
PAIR_SUFFIXES = (".hdr",)
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
SCAN_SUFFIXES = IMAGE_SUFFIXES + DICOM_SUFFIXES + NIFTI_SUFFIXES + PAIR_SUFFIXES + ITK_SUFFIXES

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


# Start-of-frame markers of JPEG (T.81 table B.1: C4, C8 and CC mean other things) and of JPEG-LS (T.87).
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


class JpegFrame(NamedTuple):
    """What a JPEG stream says of its frame: the marker, bits of a sample, and the size in pixels."""

    marker: int
    bits: int
    width: int
    height: int

    @property
    def coding(self) -> str:
        """Its coding in words."""
        if self.marker == 0xF7:
            return "JPEG-LS"
        kinds = {0: "baseline", 1: "extended", 2: "progressive", 3: "lossless"}
        hierarchical = "hierarchical " if self.marker & 4 else ""
        arithmetic = "arithmetic " if self.marker & 8 else ""
        return f"{hierarchical}{arithmetic}{kinds[self.marker & 3]}"


def jpeg_frame(data: bytes) -> JpegFrame:
    """The frame header of a JPEG or JPEG-LS stream.

    Raises:
        ValueError: there is none before the stream ends.
    """
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            bits, height, width = struct.unpack_from(">B2H", data, at + 4)
            return JpegFrame(marker, bits, width, height)
        # Fill bytes and markers without a segment (TEM, RSTn, SOI) stand alone.
        alone = marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if alone else 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ValueError("the JPEG stream has no frame header")


_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST = 180
_LONGEST_SLUG = 40

OUTPUT_KINDS = ("mask", "labels", "overlay", "saliency", "region", "prompts", "uncertainty", "proposals", "probability")
"""What the name of a result ends in, before its suffix: NAME_mask.png.  No slug is one of these words."""

RESULTS_NAME = "results.csv"
"""The table of a run, beside its masks."""

OUTPUT_SUFFIXES = (".png", ".nii.gz", ".nrrd", ".seg.dcm", ".rtstruct.dcm", ".stl")
"""What the name of a mask may end in: one suffix for each format that is written."""

REVIEWED = "reviewed"
"""The folder, beside that table, of what people said and corrected."""


def printable(text: str) -> str:
    """`text` on one line: control characters, line breaks and undecodable bytes become "?"."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)


def safe_id(name: str | Path) -> str:
    """A file-name-safe id: the last part of a path without a scan's extension, or a manifest's id.

    Ordinary names, spaces and brackets and letters of any alphabet included, stay as they are. Path
    separators, control characters and what Windows forbids become "_"; leading dots (hidden files) and
    trailing dots and spaces go; long names are cut and end in a digest of the whole.

    Args:
        name: a Path, of which the last part counts, or an id as text, in which "/" is nothing special.

    Returns:
        At least one character, at most 180 bytes in UTF-8.
    """
    text = name.name if isinstance(name, Path) else name
    suffix = scan_suffix(text)
    if suffix and len(text) > len(suffix):
        text = text[: -len(suffix)]
    text = unicodedata.normalize("NFC", printable(text).replace("?", "_"))
    text = _FORBIDDEN.sub("_", text).lstrip(". ").rstrip(". ")
    if _RESERVED.fullmatch(text):
        text = f"_{text}"
    encoded = text.encode()
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        text = encoded[: _LONGEST - 13].decode(errors="ignore") + "_" + digest
    return text or "scan"


def unique_ids(paths: Sequence[Path], root: Path | None = None) -> list[str]:
    """One id for each path, no two of them naming the same file, even where letter case does not count.

    The plain name where it is unique; otherwise the folders below `root` are put before it (sub1_a, sub2_a),
    and where that is not enough its extension after it (scan_png, scan_dcm), and at last a number.

    Args:
        paths: scans.
        root: the folder that ids are relative to; the paths' common folder when None.

    Returns:
        The ids, in the order of `paths`.
    """
    if not paths:
        return []
    places = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  (resolve() would follow links)
    base = Path(os.path.abspath(root)) if root is not None else _common(places)  # noqa: PTH100
    relative = [place.relative_to(base) if place.is_relative_to(base) else place for place in places]
    plain = [safe_id(place) for place in places]
    folders = [safe_id("_".join((*_folders(part), name))) for part, name in zip(relative, plain, strict=True)]
    suffixed = [
        safe_id(f"{name}_{place.name[len(place.name) - len(scan_suffix(place)) :].lstrip('.').replace('.', '_')}")
        for name, place in zip(folders, places, strict=True)
    ]
    ids = _unless_shared(_unless_shared(plain, folders), suffixed)
    return _numbered(ids)


def slugs(phrases: Sequence[str]) -> list[str]:
    """A short file-name-safe word for each phrase, no two of them alike: "left lung" is left-lung.

    A slug has no underscore, is none of `OUTPUT_KINDS` and at most 43 bytes long. So NAME_mask_SLUG.png is
    never what another scan's mask, or a stage of another phrase, is called.
    """
    found: list[str] = []
    for phrase in phrases:
        folded = unicodedata.normalize("NFC", phrase.casefold())
        words = re.sub(r"[\W_]+", "-", folded).strip("-").encode()[:_LONGEST_SLUG]
        plain = words.decode(errors="ignore").strip("-") or "phrase"
        slug, number = plain, 2
        while slug in found or slug in OUTPUT_KINDS:
            slug, number = f"{plain}-{number}", number + 1
        found.append(slug)
    return found


def _common(places: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([place.parent for place in places]))
    except ValueError:  # Windows: paths on different drives
        return places[0].parent


def _folders(relative: Path) -> tuple[str, ...]:
    return tuple(part for part in relative.parent.parts if part not in ("/", "."))


def _unless_shared(names: Sequence[str], others: Sequence[str]) -> list[str]:
    counts = Counter(name.casefold() for name in names)
    return [name if counts[name.casefold()] == 1 else other for name, other in zip(names, others, strict=True)]


def _numbered(names: Sequence[str]) -> list[str]:
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 2
        while candidate.casefold() in seen or (candidate != name and candidate.casefold() in taken):
            candidate, number = f"{name}_{number}", number + 1
        seen.add(candidate.casefold())
        unique.append(candidate)
    return unique

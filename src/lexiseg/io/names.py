"""Which files are scans, which of them a person means, and the names of what is made from them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lexiseg.errors import UsageError

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


_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST = 180


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
    """A short file-name-safe word for each phrase, no two of them alike: "left lung" is left-lung."""
    found: list[str] = []
    for phrase in phrases:
        plain = re.sub(r"[\W_]+", "-", phrase.casefold()).strip("-")[:40] or "phrase"
        slug, number = plain, 2
        while slug in found:
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


_OWN_ENDINGS = ("_mask", "_labels", "_overlay", "_saliency", "_region", "_uncertainty", "_proposals")
_OWN_SUFFIXES = (".png", ".nii.gz")


def find_scans(inputs: Sequence[str | Path], *, keep_missing: bool = False) -> list[Path]:
    """Expand folders into the scans in them, at any depth.

    A file that is named is kept whatever it is: reading it will tell. Of a folder, files with a known
    extension are kept, and files without any that are DICOM by content; hidden files and folders, links to
    folders, and what lexiseg itself writes (NAME_mask.png, NAME_mask.nii.gz, and so for labels, overlay,
    saliency, region, uncertainty and proposals) are passed over. Nothing is listed twice.

    Args:
        inputs: files and folders.
        keep_missing: True keeps a path that does not exist, for reading it to fail as one scan of many; False
            refuses it at once.

    Returns:
        The paths: inputs in their order, each folder's files sorted by path.

    Raises:
        UsageError: no input, an input that is missing, a folder that may not be read, or no scan at all.
    """
    if not inputs:
        raise UsageError("no scan was given; name at least one file or folder")
    found: dict[str, Path] = {}
    for each in map(Path, inputs):
        label = printable(str(each))
        if each.is_dir():
            scans = sorted(_scans_below(each), key=lambda path: path.parts)
            if not scans:
                raise UsageError(f"{label}: no scan in this folder; expected {' '.join(SCAN_SUFFIXES)}")
        elif keep_missing or os.path.lexists(each):
            scans = [each]
        else:
            raise UsageError(f"{label}: no such file or folder")
        for path in scans:
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100  (resolve() would follow links)
    return list(found.values())


def _scans_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and not _is_own_output(path) and path.is_file() and _is_scan(path):
                yield path


def _refuse(error: OSError) -> None:
    place = printable(str(error.filename))
    raise UsageError(f"{place}: the folder cannot be read ({error.strerror}); check its permissions") from error


def _is_own_output(path: Path) -> bool:
    suffix = scan_suffix(path)
    return suffix in _OWN_SUFFIXES and path.name[: -len(suffix)].endswith(_OWN_ENDINGS)


def _is_scan(path: Path) -> bool:
    if scan_suffix(path):
        return True
    # PACS exports name files by a number or a UID, whose dots look like extensions.
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as handle:
            return is_dicom(handle.read(HEAD_BYTES))
    except OSError:
        return False

"""Which files to read: what a person names, with folders expanded."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.io.names import HEAD_BYTES, OUTPUT_KINDS, OUTPUT_SUFFIXES, SCAN_SUFFIXES, is_dicom, printable, scan_suffix

logger = logging.getLogger(__name__)

_OWN = re.compile(rf"(?P<name>.+)_(?:{'|'.join(OUTPUT_KINDS)})")
_OWN_MASK = re.compile(r"(?P<name>.+_mask)_[^_]+")

DICOMDIR = "DICOMDIR"
_LINK = "link to a folder"
# Objects beside the images of a study (PS3.4 B.5), by the beginning of their SOP class.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_BESIDE_IMAGES = {
    "1.2.840.10008.1.3.10": DICOMDIR,
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
_BARE_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
_PREAMBLE = 132


def find_scans(inputs: Sequence[str | Path], *, keep_missing: bool = False) -> list[Path]:
    """Expand folders into the scans in them, at any depth.

    A file that is named is kept whatever it is: reading it will tell. Of a folder are kept

    - files with a known extension, and files that are DICOM by content, with a preamble or without, whatever
      their names;
    - what has such a name, or a name without extension, and is no file that can be opened (a broken link, a
      loop of links, a pipe): reading it tells the reason.

    Hidden files and folders, links to folders, and what lexiseg itself writes (NAME_mask.png, NAME_mask.nii.gz,
    and so for labels, overlay, saliency, region and others) are passed over, and so is what a DICOM disc holds
    besides images: its DICOMDIR, presentation states, reports and the like. One line in the log counts them
    by kind. Nothing is listed twice.

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
    passed: Counter[str] = Counter()
    for each in map(Path, inputs):
        label = printable(str(each))
        if each.is_dir():
            here: Counter[str] = Counter()
            scans = sorted(_scans_below(each, here), key=lambda path: path.parts)
            if not scans:
                besides = f"; {_counted(here)}" if here else ""
                raise UsageError(f"{label}: no scan in this folder; expected {' '.join(SCAN_SUFFIXES)}{besides}")
            passed += here
        elif keep_missing or os.path.lexists(each):
            scans = [each]
        else:
            raise UsageError(f"{label}: no such file or folder")
        for path in scans:
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100  (resolve() would follow links)
    if passed:
        logger.warning("%s", _counted(passed))
    return list(found.values())


def _counted(passed: Counter[str]) -> str:
    plural = {DICOMDIR: DICOMDIR, _LINK: "links to folders"}
    parts = [f"{n} {kind if n == 1 else plural.get(kind, f'{kind}s')}" for kind, n in sorted(passed.items())]
    return f"passed over: {', '.join(parts)}"


def _scans_below(folder: Path, passed: Counter[str]) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):
        # What `os.walk` calls a folder may be a link to one, which it does not follow: there may be a loop.
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = sum(Path(place, name).is_symlink() for name in folders)
        passed.update([_LINK] * linked)
        names = set(files)
        for name in files:
            if name.startswith(".") or _is_own_output(name, names):
                continue
            path = Path(place, name)
            kind = _beside_images(path)
            if kind:
                passed[kind] += 1
            elif kind is not None:
                yield path


def _refuse(error: OSError) -> None:
    place = printable(str(error.filename))
    raise UsageError(f"{place}: the folder cannot be read ({error.strerror}); check its permissions") from error


def _is_own_output(name: str, beside: set[str]) -> bool:
    suffix = next((each for each in OUTPUT_SUFFIXES if name.lower().endswith(each)), "")
    if not suffix:
        return False
    stem = name[: -len(suffix)]
    # A phrase's own mask lies beside the mask of all: NAME_mask_SLUG alone may be anybody's name.
    own = _OWN_MASK.fullmatch(stem)
    return bool(_OWN.fullmatch(stem)) or (own is not None and f"{own['name']}{suffix}" in beside)


def _beside_images(path: Path) -> str | None:
    """ "" for what passes for a scan, the kind of a DICOM object without an image of its own, None for others."""
    by_name = bool(scan_suffix(path))
    # PACS exports name files by a number or a UID, whose dots look like extensions.
    nameless = not path.suffix or path.suffix[1:].isdigit()
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "" if by_name or nameless else None
        if path.name.upper() == DICOMDIR:
            return DICOMDIR
        with path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError:
        return "" if by_name or nameless else None
    if is_dicom(head):
        return _kind(_meta_class(head))
    if (nameless or by_name) and _is_bare(head):
        sop_class = _bare_class(path)
        if sop_class:
            return _kind(sop_class)
    return "" if by_name else None


def _kind(sop_class: str) -> str:
    if sop_class == _RADIOTHERAPY_IMAGE:
        return ""
    return next((kind for start, kind in _BESIDE_IMAGES.items() if sop_class.startswith(start)), "")


def _meta_class(head: bytes) -> str:
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


def _is_bare(head: bytes) -> bool:
    """Whether a file may be DICOM without a preamble: a first element of a header's groups, of sensible length."""
    if len(head) < 8 or not head.startswith(_BARE_STARTS):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    size = int.from_bytes(head[4:8], "little") if head[0] else int.from_bytes(head[4:8], "big")
    return explicit or size <= HEAD_BYTES


def _bare_class(path: Path) -> str:
    """SOP Class UID of a file without preamble; "" where it is no DICOM after all."""
    # Here, because importing pydicom takes 0.4 s and few files come to this.
    import pydicom

    try:
        tags = ["MediaStorageSOPClassUID", "SOPClassUID", "Rows"]
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=tags)
    # The parser raises anything at all on what is no DICOM.
    except Exception:
        logger.debug("%s is no DICOM", path.name, exc_info=True)
        return ""
    return str(header.get("SOPClassUID") or ("image" if "Rows" in header else ""))

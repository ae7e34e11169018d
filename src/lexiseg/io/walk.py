"""Which files of a folder may be scans, by their names and first bytes."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from lexiseg.errors import UsageError
from lexiseg.io.dicom.files import DICOMDIR, is_bare, kind_of, meta_class
from lexiseg.io.names import (
    HEAD_BYTES,
    OUTPUT_KINDS,
    OUTPUT_SUFFIXES,
    RESULTS_NAME,
    REVIEWED,
    image_format,
    is_dicom,
    printable,
    scan_suffix,
)

logger = logging.getLogger(__name__)

LINK, NAMED_MASK = "link to a folder", "file with a mask's name"
_OWN = re.compile(rf"(?P<name>.+)_(?:{'|'.join(OUTPUT_KINDS)})")
_OWN_MASK = re.compile(r"(?P<name>.+_mask)_[^_]+")
# Halves of scans: their other half names them.
_SECOND_HALVES = {".img": ".hdr"}
_UNREAD = frozenset((
    ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svs", ".ndpi", ".czi", ".mgz", ".mgh", ".mnc", ".npy",
    ".npz", ".mat", ".mp4", ".avi", ".mov",
))  # fmt: skip
"""Pictures and volumes of kinds that are not read: a user may have meant them."""


@dataclass(frozen=True)
class Found:
    """A file of a folder.

    Attributes:
        path: where it lies.
        place: what it is called.
        dicom: whether it is DICOM by its content.
        kind: of a DICOM object that is no image, in words; "" for a scan.
    """

    path: Path
    place: Path
    dicom: bool = False
    kind: str = ""

    def placed(self, place: Path) -> Self:
        """The same file under another name."""
        return replace(self, place=place)


def found_below(folder: Path, passed: Counter[str]) -> Iterator[Found]:
    """The files of a folder, at any depth, that may be scans or are DICOM.

    Args:
        folder: links to folders in it are not followed.
        passed: what is passed over is counted there.

    Raises:
        UsageError: a folder may not be read.
    """
    for place, folders, files in os.walk(folder, onerror=_refuse):
        # What `os.walk` calls a folder may be a link to one, which it does not follow: there may be a loop.
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = sum(Path(place, name).is_symlink() for name in folders)
        passed.update([LINK] * linked)
        names = set(files)
        if RESULTS_NAME in names and REVIEWED in folders:
            # A run's scans again, which its review keeps beside their masks.
            folders.remove(REVIEWED)
        for name in files:
            if name.startswith(".") or _is_second_half(name, names):
                continue
            if _is_own_output(name, names):
                # Where there is no run it may be anybody's.
                if RESULTS_NAME not in names:
                    passed[NAMED_MASK] += 1
                continue
            found = _look_at(Path(place, name))
            if found is not None:
                yield found
            elif name.lower().endswith(".zip"):
                # One that is named is opened.
                passed["zip"] += 1
            elif (end := Path(name).suffix.lower()) in _UNREAD:
                passed[f"{end} file"] += 1


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


def _is_second_half(name: str, beside: set[str]) -> bool:
    stem, dot, end = name.rpartition(".")
    first = _SECOND_HALVES.get(f".{end.lower()}")
    return bool(dot) and first is not None and f"{stem}{first}" in beside


def _look_at(path: Path) -> Found | None:
    """A file by its name and first bytes; None for what is no scan."""
    by_name = bool(scan_suffix(path))
    # PACS exports name files by a number or a UID, whose dots look like extensions.
    nameless = not path.suffix or path.suffix[1:].isdigit()
    unsure = Found(path, path) if by_name or nameless else None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return unsure
        if path.name.upper() == DICOMDIR:
            return Found(path, path, dicom=True, kind=DICOMDIR)
        with path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError:
        return unsure
    if is_dicom(head):
        return Found(path, path, dicom=True, kind=kind_of(meta_class(head)))
    if (nameless or by_name) and is_bare(head):
        sop_class = _bare_class(path)
        if sop_class:
            return Found(path, path, dicom=True, kind=kind_of(sop_class))
    return Found(path, path) if by_name or (nameless and image_format(head)) else None


def _bare_class(path: Path) -> str:
    """SOP Class UID of a file without preamble; "" where it is no DICOM after all."""
    from lexiseg.io.dicom.files import read_header

    try:
        header = read_header(path, ["MediaStorageSOPClassUID", "SOPClassUID", "Rows"])
    # The parser raises anything at all on what is no DICOM.
    except Exception:
        logger.debug("%s is no DICOM", path.name, exc_info=True)
        return ""
    return str(header.get("SOPClassUID") or ("image" if "Rows" in header else ""))

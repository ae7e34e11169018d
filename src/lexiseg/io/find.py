"""Which files to read: what a person names, with folders expanded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.io.formats import HEAD_BYTES, SCAN_SUFFIXES, is_dicom, scan_suffix
from lexiseg.io.names import printable

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

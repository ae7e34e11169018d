"""Looking around in a data set's folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lexiseg.errors import BadDataset
from lexiseg.io.names import IMAGE_SUFFIXES, SCAN_SUFFIXES, printable, scan_suffix

MADE_ENDING = "_lexiseg"
"""How the folders end that an import makes: they are no part of any data set."""

_DEEPEST = 4
_MOST_FOLDERS = 20_000


def find_root(folder: Path, accepts: Callable[[Path], bool], looks_for: str) -> Path:
    """The one folder that a layout accepts, `folder` itself or the nearest below it.

    Archives unpack into one or two folders of their own name, so that a person may well name a folder above
    the one that counts.

    Raises:
        BadDataset: there is none, or several equally near.
    """
    roots = find_roots(folder, accepts)
    if not roots:
        raise BadDataset(f"{printable(str(folder))}: looked for {looks_for}; found {contents(folder)}")
    if len(roots) > 1:
        names = ", ".join(printable(str(root.relative_to(folder))) for root in roots[:3])
        raise BadDataset(f"{printable(str(folder))}: {len(roots)} folders fit ({names}); name one of them")
    return roots[0]


def find_roots(folder: Path, accepts: Callable[[Path], bool]) -> list[Path]:
    """All folders at the least depth at which a layout accepts any; empty where there is none."""
    level, visited = [folder], 0
    for _ in range(_DEEPEST + 1):
        accepted = [each for each in level if accepts(each)]
        if accepted:
            return accepted
        visited += len(level)
        if visited > _MOST_FOLDERS:
            raise BadDataset(
                f"{printable(str(folder))}: over {_MOST_FOLDERS} folders and still nothing that fits; "
                "name the data set's own folder"
            )
        level = [below for each in level for below in folders(each)]
    return []


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; without hidden ones, links, and what an import made.

    Raises:
        BadDataset: the folder may not be read.
    """
    return [
        Path(entry.path)
        for entry in _entries(folder)
        if entry.is_dir(follow_symlinks=False) and not entry.name.endswith(MADE_ENDING)
    ]


def files(folder: Path, suffixes: Sequence[str] = SCAN_SUFFIXES) -> list[Path]:
    """The files in a folder with one of some endings, sorted as people count; none where it is no folder.

    Hidden files (such as the "._a.png" that one system leaves beside "a.png"), pipes and devices are passed
    over. A link to nothing counts as a file, so that whoever reads it can say so.

    Raises:
        BadDataset: the folder may not be read.
    """
    if not folder.is_dir():
        return []
    return [
        Path(entry.path)
        for entry in _entries(folder)
        if entry.name.lower().endswith(tuple(suffixes)) and _is_file(entry)
    ]


def subfolder(folder: Path, *names: str) -> Path | None:
    """The folder of one of these names, in the order of the names, whatever its letter case."""
    if not folder.is_dir():
        return None
    there = {entry.name.casefold(): Path(entry.path) for entry in _entries(folder) if _is_dir(entry)}
    return next((there[name.casefold()] for name in names if name.casefold() in there), None)


def same_or_nested(folder: Path, suffixes: Sequence[str] = SCAN_SUFFIXES) -> Path:
    """`folder`, or the folder in it of the same kind of name where that alone holds the files (a/a/1.png)."""
    if not files(folder, suffixes):
        for below in folders(folder):
            if files(below, suffixes):
                return below
    return folder


def stem(path: Path) -> str:
    """A file's name without a scan's extension ("a" of "a.nii.gz")."""
    suffix = scan_suffix(path) or path.suffix
    return path.name[: len(path.name) - len(suffix)]


def by_stem(masks: Sequence[Path], *endings: str) -> dict[str, Path]:
    """Masks by the name of their image: their own without one of `endings`; the earlier ending wins.

    Args:
        masks: files.
        endings: what a mask's name has more than its image's, such as "_mask"; "" for equal names.
    """
    found: dict[str, Path] = {}
    for ending in endings:
        for mask in masks:
            name = stem(mask)
            if name.casefold().endswith(ending.casefold()):
                found.setdefault(name[: len(name) - len(ending)], mask)
    return found


def contents(folder: Path, most: int = 6) -> str:
    """What is in a folder, in a few words for an error."""
    names = [entry.name + ("/" if _is_dir(entry) else "") for entry in _entries(folder)]
    if not names:
        return "an empty folder"
    packed = any(name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".rar", ".7z")) for name in names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    hint = "; unpack the archives first" if packed else ""
    return printable(", ".join(name[:60] for name in names[:most])) + more + hint


def is_image(path: Path) -> bool:
    """True where a name ends as an ordinary image's."""
    return scan_suffix(path) in IMAGE_SUFFIXES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=_counted)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadDataset(f"{printable(str(folder))}: the folder cannot be read ({reason})") from error


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:  # a loop of links
        return True


def _counted(entry: os.DirEntry[str]) -> tuple[list[tuple[int, str]], str]:
    """Sorts "a2" before "a10"."""
    parts = re.split(r"([0-9]+)", entry.name.casefold())
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts], entry.name

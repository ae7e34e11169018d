"""What a run works on: files, folders and manifests become a list of scans with names and phrases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import BadPhrase, UsageError
from lexiseg.io.find import find_scans
from lexiseg.io.names import printable, safe_id, unique_ids
from lexiseg.text.phrases import check_phrase


@dataclass(frozen=True, kw_only=True)
class RunItem:
    """One scan of a run.

    Attributes:
        id: unique in the run; `name` of it too.
        path: the file; not to be opened where `error` is set.
        shown: the path as it was given, for tables and messages.
        phrases: what to look for, checked; empty only where `error` is set.
        mask: the true mask's file where the manifest names one; only yardsticks ever open it.
        error: why this scan cannot be worked on, on one line; "" for a sound one.
    """

    id: str
    path: Path
    shown: str
    phrases: tuple[str, ...]
    mask: Path | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """What the names of this scan's files begin with."""
        return safe_id(self.id)


def gather_items(
    inputs: Sequence[str | Path] = (),
    *,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    phrases: Sequence[str] = (),
) -> list[RunItem]:
    """The scans of a run: a manifest's rows in order, then the inputs'.

    A file that the manifest lists, as a scan or as a true mask, is not listed again by a folder that holds
    it. Phrases that are given hold for every scan; without any, each manifest row is asked for its own text
    (in a set of image-caption pairs that is a caption, so give a phrase there).

    Args:
        inputs: files and folders, see `find_scans`.
        manifest: a CSV, see `read_manifest`.
        root: what the manifest's paths are relative to and where they may lead; its own folder when None.
        phrases: for every scan.

    Returns:
        At least one item. A manifest row that cannot be used, a row without any text, and an input that does
        not exist beside others that do are items with an error.

    Raises:
        UsageError: nothing to work on, no phrase, none of the inputs exists, a folder without scans.
        BadPhrase: a phrase is empty, has no letter, or is given twice.
        BadManifest: see `read_manifest`.
    """
    asked = _checked(phrases)
    if not inputs and manifest is None:
        raise UsageError("no scan was given; name at least one file or folder, or a manifest")
    if manifest is None and not asked:
        raise UsageError("no phrase was given; say what to look for, for example 'breast tumor'")
    if inputs and asked == ():
        raise UsageError("no phrase was given for the files; a manifest's text holds for its own rows alone")
    rows = read_manifest(manifest, root=root) if manifest is not None else []
    if rows and not asked and not any(row.text for row in rows):
        raise UsageError(f"{manifest}: no row has a text and no phrase was given; say what to look for")
    own = Path(manifest).parent if manifest is not None else Path()
    folder = own if root is None else Path(root)
    listed = [_of_row(row, folder, asked) for row in rows]
    return listed + _of_inputs(inputs, asked, rows)


def _checked(phrases: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(check_phrase(text) for text in phrases)
    for index, text in enumerate(asked):
        if text.casefold() in {earlier.casefold() for earlier in asked[:index]}:
            raise BadPhrase(f"phrase {text!r} is asked twice; name each target once")
    return asked


def _of_row(row: ManifestRow, folder: Path, asked: tuple[str, ...]) -> RunItem:
    phrases, error = asked, row.error
    if not asked:
        try:
            phrases = (check_phrase(row.text),)
        except BadPhrase as problem:
            error = "; ".join(filter(None, (error, str(problem))))
    shown = row.image if row.error else Path(os.path.relpath(row.image, folder))
    return RunItem(
        id=printable(row.id),
        path=row.image,
        shown=printable(shown.as_posix()),
        phrases=phrases,
        mask=row.mask,
        error=f"{printable(row.id)}: {error}" if error else "",
    )


def _of_inputs(inputs: Sequence[str | Path], asked: tuple[str, ...], rows: Sequence[ManifestRow]) -> list[RunItem]:
    if not inputs:
        return []
    if not any(os.path.lexists(each) for each in inputs):
        # Nothing at all to do is a mistyped call; one missing file among others is that file's failure.
        find_scans(inputs)
    sound = [row for row in rows if not row.error]
    listed = {_place(path) for row in sound for path in (row.image, row.mask) if path is not None}
    paths = [path for path in find_scans(inputs, keep_missing=True) if _place(path) not in listed]
    taken = {safe_id(row.id).casefold() for row in rows}
    items = []
    for path, name in zip(paths, unique_ids(paths), strict=True):
        unique, number = name, 2
        while unique.casefold() in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.casefold())
        items.append(RunItem(id=unique, path=path, shown=printable(str(path)), phrases=asked))
    return items


def _place(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (resolve() would follow links)

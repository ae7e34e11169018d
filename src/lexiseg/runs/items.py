"""What a run works on: files, folders and manifests become a list of scans with names and phrases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import BadPhrase, UsageError
from lexiseg.io.find import find_sources, only_source, place_of
from lexiseg.io.names import printable, safe_id, unique_ids
from lexiseg.io.sources import Source, SourceOptions
from lexiseg.text.phrases import check_phrase


@dataclass(frozen=True, kw_only=True)
class RunItem:
    """One scan of a run.

    Attributes:
        id: unique in the run; `name` of it too.
        source: what it is read from; not to be opened where `error` is set.
        shown: the place as it was given, for tables and messages.
        phrases: what to look for, checked; empty only where `error` is set.
        mask: the true mask's file where the manifest names one; only yardsticks ever open it.
        error: why this scan cannot be worked on, on one line; "" for a sound one.
    """

    id: str
    source: Source
    shown: str
    phrases: tuple[str, ...]
    mask: Path | None = None
    error: str = ""

    @property
    def path(self) -> Path:
        """The file; of a series its folder."""
        return self.source.path

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
    reading: SourceOptions | None = None,
) -> list[RunItem]:
    """The scans of a run: a manifest's rows in order, then the inputs'.

    A file that the manifest lists, as a scan or as a true mask, is not listed again by a folder that holds
    it. Phrases that are given hold for every scan; without any, each manifest row is asked for its own text
    (in a set of image-caption pairs that is a caption, so give a phrase there).

    Args:
        inputs: files, folders and zips, see `find_sources`.
        manifest: a CSV, see `read_manifest`.
        root: what the manifest's paths are relative to and where they may lead; its own folder when None.
        phrases: for every scan.
        reading: which series of a folder, and which volume of a file; a manifest's row that is a folder, too.

    Returns:
        At least one item. A manifest row that cannot be used, a row without any text, and an input that cannot
        be used beside others that can are items with an error.

    Raises:
        UsageError: nothing to work on, no phrase, none of the inputs exists, or the only input is a folder without
            scans or one of which a series must be chosen.
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
    reading = reading or SourceOptions()
    listed = [_of_row(row, folder, asked, reading) for row in rows]
    return listed + _of_inputs(inputs, asked, rows, reading)


def _checked(phrases: Sequence[str]) -> tuple[str, ...]:
    asked = tuple(check_phrase(text) for text in phrases)
    for index, text in enumerate(asked):
        if text.casefold() in {earlier.casefold() for earlier in asked[:index]}:
            raise BadPhrase(f"phrase {text!r} is asked twice; name each target once")
    return asked


def _of_row(row: ManifestRow, folder: Path, asked: tuple[str, ...], reading: SourceOptions) -> RunItem:
    phrases, error = asked, row.error
    if not asked:
        try:
            phrases = (check_phrase(row.text),)
        except BadPhrase as problem:
            error = "; ".join(filter(None, (error, str(problem))))
    shown = row.image if row.error else Path(os.path.relpath(row.image, folder))
    source = Source.of_file(row.image, volume=reading.volume)
    if not row.error:
        try:
            source = only_source(row.image, reading)
        except UsageError as problem:
            error = "; ".join(filter(None, (error, str(problem))))
    return RunItem(
        id=printable(row.id),
        source=source,
        shown=printable(shown.as_posix()),
        phrases=phrases,
        mask=row.mask,
        error=f"{printable(row.id)}: {error}" if error else "",
    )


def _of_inputs(
    inputs: Sequence[str | Path], asked: tuple[str, ...], rows: Sequence[ManifestRow], reading: SourceOptions
) -> list[RunItem]:
    if not inputs:
        return []
    if not any(os.path.lexists(each) for each in inputs):
        # Nothing at all to do is a mistyped call; one missing file among others is that file's failure.
        find_sources(inputs)
    sound = [row for row in rows if not row.error]
    listed = {place_of(path) for row in sound for path in (row.image, row.mask) if path is not None}
    found = find_sources(inputs, reading, keep_missing=True)
    sources = [each for each in found if not each.files or any(place_of(file) not in listed for file in each.files)]
    taken = {safe_id(row.id).casefold() for row in rows}
    items = []
    for source, name in zip(sources, unique_ids([each.place for each in sources]), strict=True):
        unique, number = name, 2
        while unique.casefold() in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.casefold())
        items.append(RunItem(id=unique, source=source, shown=source.shown, phrases=asked, error=source.error))
    return items

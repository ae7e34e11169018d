"""The scans of a finished run, found again: each is the file that the run read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lexiseg.errors import LexisegError, UsageError
from lexiseg.io.find import find_sources
from lexiseg.io.names import RESULTS_NAME
from lexiseg.io.sources import Source, SourceOptions
from lexiseg.runs.items import RunItem
from lexiseg.runs.ledger import Ledger, read_ledger
from lexiseg.runs.table import Row, read_record, read_results

_SERIES = re.compile(r"series-?\d+")
"""The last part of what a series is called whose folder holds several."""
OTHER_FILE = "it is not the file that the run read, or was changed since; put that file back, or segment it again"


def finished_items(folder: Path, base: Path) -> list[RunItem]:
    """The scans of a finished run, by the paths in its table.

    Args:
        folder: of the run.
        base: where relative paths may begin, besides the working directory; or any folder on their way.

    Returns:
        In the table's order. A scan that is not there, or is another file than the run read, has an error.

    Raises:
        UsageError: results.csv or files.csv cannot be read.
    """
    by_id: dict[str, list[Row]] = {}
    for row in read_results(folder / RESULTS_NAME):
        by_id.setdefault(row.id, []).append(row)
    found = _Finder(base, _reading_of(folder), read_ledger(folder))
    items = []
    for name, own in by_id.items():
        shown = own[0].image
        failed = next((row.error for row in own if not row.ok), "")
        source = Source.failed(shown, failed) if failed else found.source(name, shown)
        phrases = tuple(row.text for row in own)
        items.append(RunItem(id=name, source=source, shown=shown, phrases=phrases, error=source.error))
    return items


def is_same_scan(item: RunItem, ledger: Ledger) -> bool:
    """Whether a scan's files are those that the run read; also where nobody knows what it read."""
    return not ledger.inputs(item.id) or ledger.inputs_are_same(item.id, item.source.files)


class _Finder:
    """Looks for scans.

    Args:
        base: see `finished_items`.
        reading: how the run read folders and files.
        ledger: of the run.
    """

    def __init__(self, base: Path, reading: SourceOptions, ledger: Ledger) -> None:
        self._base, self._reading, self._ledger = base, reading, ledger
        self._held: dict[Path, list[Source]] = {}

    def source(self, id: str, shown: str) -> Source:
        """What a scan of the table is read from, or why it cannot be."""
        known = bool(self._ledger.inputs(id))
        # Where nobody knows which file it was, a name alone does not tell.
        tails = range(len(Path(shown).parts)) if known else range(1)
        places = [Path(shown), *(self._base.joinpath(*Path(shown).parts[k:]) for k in tails)]
        reason = f"{shown}: the scan is not there; start in the folder that the run was started in, or name --folder"
        for place in dict.fromkeys(places):
            try:
                fit = self._fitting(id, place, known=known)
            except LexisegError as error:
                reason = str(error)
                continue
            if isinstance(fit, Source):
                return fit
            reason = f"{shown}: {fit}" if fit else reason
        return Source.failed(shown, reason)

    def _fitting(self, id: str, place: Path, *, known: bool) -> Source | str:
        """The scan at a place; or why it is none, "" where nothing is there."""
        root = _root_of(place)
        if root is None:
            return ""
        held = self._held_by(root)
        if known:
            fit = [source for source in held if self._ledger.inputs_are_same(id, source.files)]
            # Of a zip all scans have the same file.
            fit = [source for source in fit if source.place == place] or fit
            if len(fit) != 1:
                return OTHER_FILE
            return fit[0]
        if len(held) != 1:
            return f"it holds {len(held)} scans, and the run did not write down which it read; segment it again"
        return held[0]

    def _held_by(self, root: Path) -> list[Source]:
        if root not in self._held:
            plain = root.is_file() and not self._reading.stack and root.suffix.lower() != ".zip"
            self._held[root] = (
                [Source.of_file(root, volume=self._reading.volume)] if plain else find_sources([root], self._reading)
            )
        return self._held[root]


def _root_of(place: Path) -> Path | None:
    """What holds a scan: itself, the folder of several series, or a zip; None where there is nothing."""
    if place.exists():
        return place
    if _SERIES.fullmatch(place.name) and place.parent.is_dir():
        return place.parent
    return next((above for above in place.parents if above.is_file()), None)


def record_of(folder: Path) -> dict[str, Any]:
    """A finished run's run.json; {} where there is none that can be read, for its table says enough."""
    try:
        return read_record(folder) or {}
    except UsageError:
        return {}


def threshold_of(record: Mapping[str, Any], preset: float | None) -> float | None:
    """The presence below which a run called a phrase absent; None for none.

    Args:
        record: its run.json.
        preset: what holds where the record does not say.
    """
    presence = (record.get("preset") or {}).get("presence") or {}
    found = presence.get("threshold", preset)
    return found if found is None else float(found)


def _reading_of(folder: Path) -> SourceOptions:
    """How a run read folders, as run.json has it; all of their series, of which files.csv says which is meant."""
    every = SourceOptions(all_series=True, all_patients=True)
    options = record_of(folder).get("options") or {}
    spacing = options.get("spacing")
    try:
        return replace(
            every,
            volume=options.get("volume"),
            stack=bool(options.get("stack")),
            spacing=tuple(spacing) if spacing else None,
        )
    except (UsageError, TypeError):
        # Another program's: the scans' own files tell what is wrong.
        return every

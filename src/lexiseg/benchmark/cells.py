"""Cells: a set, a system, a kind of prompt and a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

import numpy as np

from lexiseg.benchmark.suite import KINDS, Suite, SuiteSet, SuiteSystem
from lexiseg.benchmark.training_split import rows_of_part, training_statement
from lexiseg.datasets.manifest import ManifestRow, place_inside, read_manifest
from lexiseg.errors import UsageError
from lexiseg.files import sha256_of
from lexiseg.io.names import printable
from lexiseg.io.sources import Source
from lexiseg.runs.items import RunItem


@dataclass(frozen=True)
class SelectedScans:
    """The scans of a set.

    Attributes:
        folder: the manifest's.
        rows: in the manifest's order, at least one.
        available: how many there were before the limit.
        training: whether the bundled models were trained on them, in words.
    """

    folder: Path
    rows: tuple[ManifestRow, ...]
    available: int
    training: str

    def first(self, limit: int | None) -> list[ManifestRow]:
        """At most `limit` of them, spread evenly over the manifest's order, in which labels mostly lie
        together.
        """
        return spread(self.rows, limit)


def select_scans(chosen: SuiteSet, data: Path, *, limit: int | None = None) -> SelectedScans:
    """Read a set's manifest and take the rows that the suite asks for.

    Args:
        chosen: the set.
        data: the folder that the manifest's path is relative to.
        limit: at most so many scans, besides the set's own limit.

    Raises:
        UsageError: the manifest is missing, lies outside the data folder or cannot be read; a column or part
            that it does not have; or no row is left.
    """
    where = f"sets.{chosen.name}"
    path, problem = place_inside(chosen.manifest, data, "manifest")
    if problem:
        raise UsageError(
            f"{where}: the manifest {printable(chosen.manifest)} does not lie in the data folder; "
            "expected a path relative to it, without .. and links that lead out"
        )
    try:
        every = read_manifest(path)
        rows = rows_of_part(every, chosen.part, chosen.manifest)
        for column, values in chosen.where.items():
            rows = [row for row in rows if _value(row, column, every) in values]
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if not rows:
        asked = ", ".join(f"{column}: {' or '.join(values)}" for column, values in chosen.where.items())
        raise UsageError(f"{where}: no row of {printable(chosen.manifest)} fits {asked or chosen.part}")
    limits = [each for each in (limit, chosen.limit) if each is not None]
    kept = spread(rows, min(limits) if limits else None)
    return SelectedScans(path.parent, tuple(kept), len(rows), training_statement(every, kept, chosen.manifest))


def spread(rows: Sequence[ManifestRow], limit: int | None) -> list[ManifestRow]:
    """At most `limit` rows at even distances."""
    if limit is None or limit >= len(rows):
        return list(rows)
    places = np.linspace(0, len(rows) - 1, limit).round().astype(int) if limit > 1 else [0]
    return [rows[place] for place in places]


def _value(row: ManifestRow, column: str, every: Sequence[ManifestRow]) -> str:
    known = {"label": row.label, "group": row.group, "text": row.text, **row.extra}
    if column not in known and not any(column in each.extra for each in every):
        raise UsageError(f"where: there is no column {column}; expected one of {', '.join(sorted(known))}")
    return known.get(column, "")


WORDING = "sensitivity"
"""The kind of cell in which a scan is asked for what is not there too."""


@dataclass(frozen=True)
class Cell:
    """One system on one set.

    Attributes:
        set: the set.
        system: the system.
        kind: one of `KINDS`, or `WORDING`.
        seed: of every random number.
    """

    set: SuiteSet
    system: SuiteSystem
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """For people, and for its place: SET/PRESET/KIND/seed-N."""
        return f"{self.set.name}/{self.system.name}/{self.kind}/seed-{self.seed}"

    def folder(self, out: Path) -> Path:
        """Where its results are."""
        return out / "cells" / self.set.name / self.system.name / self.kind / f"seed-{self.seed}"


@dataclass(frozen=True)
class Grid:
    """The cells of a suite.

    Attributes:
        cells: those that can be run, by system, then set.
        without: what cannot be run, and why, in words.
    """

    cells: tuple[Cell, ...]
    without: tuple[str, ...]


def make_grid(suite: Suite, scans: Mapping[str, SelectedScans], only: Sequence[str] = ()) -> Grid:
    """All cells of a suite, or those that are asked for.

    Args:
        suite: the suite.
        scans: of the sets that are asked for, by name.
        only: see `wanted`.

    Raises:
        UsageError: no cell is left.
    """
    cells: list[Cell] = []
    without: list[str] = []
    for system in suite.systems.values():
        for chosen in suite.sets.values():
            if not wanted(chosen.name, system.name, only):
                continue
            told = system.preset.needs_truth
            if told and not any(row.mask for row in scans[chosen.name].rows):
                without.append(f"{chosen.name}/{system.name}: it asks with the boxes of true masks; the set has none")
                continue
            kinds = [kind for kind in KINDS if kind in chosen.kinds and kind in system.kinds]
            plan = suite.wording
            if plan is not None and system.name in plan.systems and chosen.contrasts:
                kinds.append(WORDING)
            # Sensitivity is a property of the words: one seed tells it.
            cells += [
                Cell(chosen, system, kind, seed)
                for kind in kinds
                for seed in (suite.seeds[:1] if kind == WORDING else suite.seeds)
            ]
    if not cells:
        reason = f" ({without[0]})" if without else ""
        raise UsageError(f"{suite.file}: there is nothing to run{reason}")
    return Grid(tuple(cells), tuple(without))


def wanted(set_name: str, system: str, only: Sequence[str]) -> bool:
    """Whether a set and system are asked for: "SET/PRESET" or "SET", with * for any; all where none is."""
    return not only or any(fnmatchcase(f"{set_name}/{system}", _pattern(each)) for each in only)


def _pattern(wish: str) -> str:
    return wish if "/" in wish else f"{wish}/*"


def refuse_unmatched(suite: Suite, only: Sequence[str]) -> None:
    """Pass where each wish fits a set and a preset of the suite.

    Raises:
        UsageError: one does not.
    """
    for each in only:
        if not any(wanted(name, system, [each]) for name in suite.sets for system in suite.systems):
            raise UsageError(
                f"--only {printable(each)} fits nothing in {suite.file}; expected SET/PRESET of the sets "
                f"{', '.join(suite.sets)} and the presets {', '.join(suite.systems)}"
            )


def items_of(cell: Cell, scans: SelectedScans, rows: Sequence[ManifestRow]) -> list[RunItem]:
    """A cell's scans with what is asked of each.

    Raises:
        UsageError: a label has no phrase.
    """
    items = []
    for row in rows:
        phrase = cell.set.generic if cell.kind == WORDING else cell.set.phrase(cell.kind, row)
        shown = row.image if row.error else Path(os.path.relpath(row.image, scans.folder))
        items.append(
            RunItem(
                id=printable(row.id),
                source=Source.of_file(row.image),
                shown=printable(shown.as_posix()),
                phrases=(phrase,),
                mask=row.mask,
                error=f"{printable(row.id)}: {row.error}" if row.error else "",
            )
        )
    return items


def scan_digest(cell: Cell, item: RunItem) -> str:
    """Tells a scan and what is asked of it from any other, by content; the true mask's only where a system
    is told it.
    """
    told = item.mask if cell.system.preset.needs_truth else None
    contents = [_content(path) for path in (item.path, told) if path is not None and not item.error]
    return hashlib.sha256("\0".join([*contents, *item.phrases, item.error]).encode()).hexdigest()[:32]


def _content(path: Path) -> str:
    try:
        status = path.stat()
        return _hashed(path, status.st_size, status.st_mtime_ns)
    except OSError:
        # Reading it is the run's business, which says what is wrong with it.
        return "missing"


@lru_cache(maxsize=1 << 18)
def _hashed(path: Path, _size: int, _changed: int) -> str:
    # A pipe or device would never end.
    return sha256_of(path) if path.is_file() else "no file"

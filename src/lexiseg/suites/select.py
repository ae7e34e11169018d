"""A set's scans: which rows of its manifest are segmented and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lexiseg.datasets import ManifestRow, read_manifest
from lexiseg.datasets.tables import place_inside
from lexiseg.errors import UsageError
from lexiseg.scans import printable
from lexiseg.suites.parts import rows_of_part, training_statement
from lexiseg.suites.suite import SuiteSet


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
    return SelectedScans(
        path.parent, tuple(kept), len(rows), training_statement(every, kept, chosen.manifest)
    )


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

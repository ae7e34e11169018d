"""Everything that a benchmark found, in the order in which it is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.benchmark.cells import SENSITIVITY, Cell, SelectedScans
from lexiseg.benchmark.entries import Entry, ReactionEntry, make_entry, make_reaction_entries
from lexiseg.benchmark.reactions import read_reactions
from lexiseg.benchmark.record import read_cell
from lexiseg.benchmark.suite import KINDS, Suite
from lexiseg.evaluation.evaluate import Count, Progress, SystemReader, score_systems
from lexiseg.evaluation.report.record import versions as scoring_versions
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.io.names import printable
from lexiseg.runs.table import read_results

Placed = tuple[Cell, Path, Sequence[str]]
"""A cell, its folder and the ids of its scans."""


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """What a benchmark found.

    Attributes:
        suite: what was run.
        scans: of each set.
        entries: by kind of prompt and set, the best system first.
        reactions: by set and system.
        models: system -> role -> the weights that its cells were made with, as in run.json.
        versions: of what segmented and scored.
        machine: where it ran, in words.
        notes: what is not there, and why.
        unusable: rows that no system is scored on, and why.
        command: how to run it again.
        date: "" where it is left out.
    """

    suite: Suite
    scans: Mapping[str, SelectedScans]
    entries: tuple[Entry, ...]
    reactions: tuple[ReactionEntry, ...]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    machine: str
    notes: tuple[str, ...]
    unusable: tuple[str, ...]
    command: str
    date: str

    @property
    def complete(self) -> bool:
        """Whether every scan has a truth that can be used, and was answered in every cell."""
        unanswered = any(entry.missing or entry.refused for entry in self.entries)
        return not self.unusable and not unanswered and not any(entry.missing for entry in self.reactions)


def make_leaderboard(
    suite: Suite,
    scans: Mapping[str, SelectedScans],
    cells: Sequence[Placed],
    *,
    notes: Sequence[str] = (),
    seconds: bool = True,
    command: str = "",
    date: str = "",
    progress: Progress | None = None,
) -> Leaderboard:
    """Score cells that were run.

    Args:
        suite: what was run.
        scans: of each set.
        cells: with their folders.
        notes: what is not there, and why.
        seconds: put measured times in.
        command: how to run it again.
        date: when it was run; "" leaves it out.
        progress: told how many of how many scans are scored.
    """
    bootstrap = Bootstrap(resamples=suite.resamples)
    scored = [placed for placed in cells if placed[0].kind != SENSITIVITY]
    sets = [name for name in suite.sets if any(cell.set.name == name for cell, _, _ in scored)]
    count = Count(sum(len(scans[name].rows) for name in sets), progress)
    entries: list[Entry] = []
    unusable: list[str] = []
    for name in sets:
        mine = [placed for placed in scored if placed[0].set.name == name]
        settings = EvaluationSettings(tolerance=suite.tolerance, bootstrap=bootstrap, absent=suite.sets[name].absent)
        rows = scans[name].rows
        systems = [SystemReader(folder, rows) for _, folder, _ in mine]
        found = score_systems(rows, systems, settings, beneath=scans[name].folder, tell=count.one)
        unusable += [f"{name}: no usable truth: {printable(row.id)}: {row.reason}" for row in found.unusable]
        for (cell, folder, ids), cases in zip(mine, found.cases, strict=True):
            if cases:
                times = _seconds(folder, ids) if seconds else []
                entries.append(make_entry(cell, cases, times, bootstrap))
    reactions = [
        each for placed in cells if placed[0].kind == SENSITIVITY for each in _reactions(placed, scans, bootstrap)
    ]
    order = list(suite.sets)
    entries.sort(key=lambda entry: _place(entry, order))
    reactions.sort(key=lambda entry: order.index(entry.cell.set.name))
    records = {cell.system.name: read_cell(folder) or {} for cell, folder, _ in cells}
    settings_of = {name: record.get("settings", {}) for name, record in records.items()}
    return Leaderboard(
        suite=suite,
        scans=scans,
        entries=tuple(entries),
        reactions=tuple(reactions),
        models={name: settings.get("models", {}) for name, settings in settings_of.items()},
        versions=_versions(list(settings_of.values())),
        machine=_machine(list(settings_of.values())),
        notes=tuple(notes),
        unusable=tuple(unusable),
        command=command,
        date=printable(date),
    )


def _reactions(placed: Placed, scans: Mapping[str, SelectedScans], bootstrap: Bootstrap) -> list[ReactionEntry]:
    cell, folder, ids = placed
    found = {name: read_reactions(folder, name) for name in ids}
    groups = {printable(row.id): row.group or row.id for row in scans[cell.set.name].rows}
    answered = {name: each for name, each in found.items() if each}
    return make_reaction_entries(cell, answered, groups, missing=len(ids) - len(answered), bootstrap=bootstrap)


def _place(entry: Entry, order: Sequence[str]) -> tuple[Any, ...]:
    """By kind, set and falling score; yardsticks, which are told the truth, last."""
    score = -math.inf if math.isnan(entry.score) else entry.score
    cell = entry.cell
    return (KINDS.index(cell.kind), order.index(cell.set.name), entry.yardstick, -score, cell.system.name,
            cell.seed)  # fmt: skip


def _seconds(folder: Path, ids: Sequence[str]) -> list[float]:
    wanted = set(ids)
    rows = read_results(folder / "results.csv")
    return [float(row.seconds) for row in rows if row.ok and row.seconds and row.id in wanted]


def _versions(settings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of what scored, and of what segmented; where cells differ, all of them."""
    found: dict[str, set[str]] = {name: {value} for name, value in scoring_versions().items()}
    for each in settings:
        for name, value in each.get("versions", {}).items():
            found.setdefault(name, set()).add(str(value))
    return {name: " and ".join(sorted(values - {""})) for name, values in found.items()}


def _machine(settings: Sequence[Mapping[str, Any]]) -> str:
    places = {(str(each.get("device")), str(each.get("threads"))) for each in settings if each}
    return "; ".join(f"{device}, {threads} threads" for device, threads in sorted(places))

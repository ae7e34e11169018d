"""A leaderboard: what each cell's cases and effects say together, in the order in which it is told."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.benchmark.cells import WORDING, Cell, SelectedScans
from lexiseg.benchmark.record import read_cell
from lexiseg.benchmark.suite import KINDS, Suite
from lexiseg.benchmark.wording import WordingEffect, read_wording
from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.evaluate import Count, Progress, score_systems
from lexiseg.evaluation.metrics.catalogue import in_order
from lexiseg.evaluation.presence import PresenceReport, report_presence
from lexiseg.evaluation.report.record import versions as scoring_versions
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Bootstrap, Summary, summarise
from lexiseg.evaluation.systems import SystemReader
from lexiseg.io.names import printable
from lexiseg.runs.table import read_results


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell.

    Attributes:
        cell: which.
        scans: scored.
        groups: of the scans (patients).
        with_target: scans that hold the target.
        metric: the metric by which systems are ranked: "dice", or "box_iou" where there are no true masks.
        target: each metric over the scans that hold the target, where published numbers are taken.
        everything: each metric over all scans; an answer that is rightly empty scores 1.
        presence: None for a yardstick, which is told the truth.
        called_absent: scans with the target that were answered with "absent".
        drawn_in_absent: scans without the target in which something was drawn.
        missing: scans without a prediction (their run failed).
        refused: scans whose prediction cannot be used.
        seconds: the median for a scan; NaN where times are left out.
    """

    cell: Cell
    scans: int
    groups: int
    with_target: int
    metric: str
    target: Mapping[str, Summary]
    everything: Mapping[str, Summary]
    presence: PresenceReport | None
    called_absent: int
    drawn_in_absent: int
    missing: int
    refused: int
    seconds: float

    @property
    def yardstick(self) -> bool:
        """Whether the system is told the truth: an upper bound, never a result."""
        return self.presence is None

    @property
    def score(self) -> float:
        """The mean by which systems are ranked; NaN where there is none."""
        found = self.target.get(self.metric)
        return math.nan if found is None else found.mean


def make_entry(cell: Cell, cases: Sequence[Case], seconds: Sequence[float], bootstrap: Bootstrap) -> Entry:
    """Summarise a cell.

    Args:
        cell: which.
        cases: of the cell, at least one.
        seconds: of the scans; () leaves times out.
        bootstrap: how intervals are made.
    """
    hold = [case for case in cases if case.truly_present]
    empty = [case for case in cases if not case.truly_present]
    told = cell.system.preset.needs_truth
    return Entry(
        cell=cell,
        scans=len(cases),
        groups=len({case.group for case in cases}),
        with_target=len(hold),
        metric="dice" if any("dice" in case.values for case in cases) else "box_iou",
        target=_summaries(hold, bootstrap),
        everything=_summaries(cases, bootstrap),
        presence=None if told else report_presence(cases, bootstrap),
        called_absent=sum(case.found is False for case in hold),
        drawn_in_absent=sum(case.found is True for case in empty),
        missing=sum(case.status is Status.missing for case in cases),
        refused=sum(case.status is Status.refused for case in cases),
        seconds=statistics.median(seconds) if seconds else math.nan,
    )


def _summaries(cases: Sequence[Case], bootstrap: Bootstrap) -> dict[str, Summary]:
    found = {}
    for key in in_order({key for case in cases for key in case.values}):
        known = [case for case in cases if key in case.values]
        found[key] = summarise(
            [case.values[key] for case in known], [case.group for case in known], bootstrap=bootstrap
        )
    return found


@dataclass(frozen=True, kw_only=True)
class WordingEntry:
    """What one kind of phrase changes, over the scans of a set.

    Attributes:
        cell: which.
        kind: why the phrase was asked; "right" for the right one.
        phrase: as it was asked.
        scans: that were asked.
        missing: scans that could not be asked.
        absent: share of answers "absent".
        presence: mean evidence.
        presence_change: mean of this phrase's evidence less the right one's.
        pearson: mean correlation of its saliency with the right one's.
        spearman: likewise, of ranks.
        map_change: mean absolute difference of the two maps.
    """

    cell: Cell
    kind: str
    phrase: str
    scans: int
    missing: int
    absent: Summary
    presence: Summary
    presence_change: Summary
    pearson: Summary
    spearman: Summary
    map_change: Summary


def make_wording_entries(
    cell: Cell,
    effects: Mapping[str, Sequence[WordingEffect]],
    groups: Mapping[str, str],
    *,
    missing: int,
    bootstrap: Bootstrap,
) -> list[WordingEntry]:
    """Summarise a cell of sensitivity: a line for each kind of phrase, the right one first.

    Args:
        cell: which.
        effects: by the scan's id; each scan's kinds are the same.
        groups: each scan's group, by id.
        missing: how many scans could not be asked.
        bootstrap: how intervals are made.
    """
    by_group = [groups[name] for name in effects]
    entries = []
    for same in zip(*effects.values(), strict=True):

        def over(value: Callable[[WordingEffect], float], asked: Sequence[WordingEffect] = same) -> Summary:
            return summarise([value(each) for each in asked], by_group, bootstrap=bootstrap)

        entries.append(
            WordingEntry(
                cell=cell,
                kind=same[0].kind,
                phrase=same[0].phrase,
                scans=len(same),
                missing=missing,
                absent=over(lambda each: float(not each.present)),
                presence=over(lambda each: each.presence),
                presence_change=over(lambda each: each.presence_change),
                pearson=over(lambda each: each.pearson),
                spearman=over(lambda each: each.spearman),
                map_change=over(lambda each: each.map_change),
            )
        )
    return entries


Placed = tuple[Cell, Path, Sequence[str]]
"""A cell, its folder and the ids of its scans."""


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """What a benchmark found.

    Attributes:
        suite: what was run.
        scans: of each set.
        entries: by kind of prompt and set, the best system first.
        wording: sensitivity to the wording, by set and system.
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
    wording: tuple[WordingEntry, ...]
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
        return not self.unusable and not unanswered and not any(entry.missing for entry in self.wording)


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
    scored = [placed for placed in cells if placed[0].kind != WORDING]
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
    wording = [each for placed in cells if placed[0].kind == WORDING for each in _wording(placed, scans, bootstrap)]
    order = list(suite.sets)
    entries.sort(key=lambda entry: _place(entry, order))
    wording.sort(key=lambda entry: order.index(entry.cell.set.name))
    records = {cell.system.name: read_cell(folder) or {} for cell, folder, _ in cells}
    settings_of = {name: record.get("settings", {}) for name, record in records.items()}
    return Leaderboard(
        suite=suite,
        scans=scans,
        entries=tuple(entries),
        wording=tuple(wording),
        models={name: settings.get("models", {}) for name, settings in settings_of.items()},
        versions=_versions(list(settings_of.values())),
        machine=_machine(list(settings_of.values())),
        notes=tuple(notes),
        unusable=tuple(unusable),
        command=command,
        date=printable(date),
    )


def _wording(placed: Placed, scans: Mapping[str, SelectedScans], bootstrap: Bootstrap) -> list[WordingEntry]:
    cell, folder, ids = placed
    found = {name: read_wording(folder, name) for name in ids}
    groups = {printable(row.id): row.group or row.id for row in scans[cell.set.name].rows}
    answered = {name: each for name, each in found.items() if each}
    return make_wording_entries(cell, answered, groups, missing=len(ids) - len(answered), bootstrap=bootstrap)


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

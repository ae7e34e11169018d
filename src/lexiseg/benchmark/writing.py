"""A leaderboard's files: a page of Markdown, CSV and JSON; equal ones, equal bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lexiseg.benchmark.leaderboard import Entry, Leaderboard, WordingEntry
from lexiseg.benchmark.report import to_markdown
from lexiseg.evaluation.presence import Measured
from lexiseg.evaluation.report.writing import csv_of_records, json_text, write_texts
from lexiseg.evaluation.statistics import Summary
from lexiseg.io.taken import refuse_taken

_EFFECTS = ("absent", "presence", "presence_change", "pearson", "spearman", "map_change")


_BEGINNINGS = {
    "leaderboard.md": r"# Leaderboard: ",
    "leaderboard.csv": r"set,prompt,preset,seed,",
    "leaderboard.json": r'\{\s*"suite": ',
    "sensitivity.csv": r"set,preset,kind,phrase,",
}
"""The files of a leaderboard, and how each begins."""


def refuse_folder(out: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Pass unless a leaderboard would overwrite what it did not write.

    Args:
        out: where a leaderboard is to go.
        inputs: what the benchmark reads.

    Raises:
        UsageError: the folder is a file, or holds a file of these names that no benchmark wrote, or that is read.
        UnwritableResult: a folder above it is a file.
    """
    refuse_taken(out, _BEGINNINGS, inputs=inputs)


def write_leaderboard(leaderboard: Leaderboard, out: Path) -> list[Path]:
    """Write leaderboard.md, leaderboard.csv, leaderboard.json and, where it was asked for, sensitivity.csv.

    Raises:
        UnwritableResult: the file system refused.
    """
    texts = {
        "leaderboard.md": to_markdown(leaderboard),
        "leaderboard.csv": csv_of_records([_flat(entry) for entry in leaderboard.entries]),
        "leaderboard.json": to_json(leaderboard),
    }
    if leaderboard.wording:
        texts["sensitivity.csv"] = csv_of_records([_flat_wording(entry) for entry in leaderboard.wording])
    return write_texts(texts, out)


def to_json(leaderboard: Leaderboard) -> str:
    """Everything, undefined numbers as null."""
    suite = leaderboard.suite
    content = {
        "suite": suite.name,
        "about": suite.about,
        "command": leaderboard.command,
        "date": leaderboard.date,
        "versions": leaderboard.versions,
        "machine": leaderboard.machine,
        "bootstrap": {"resamples": suite.resamples, "level": 0.95, "clustered by": "group"},
        "nsd tolerance": suite.tolerance,
        "sets": {
            name: {
                "manifest": suite.sets[name].manifest,
                "part": suite.sets[name].part,
                "scans": len(chosen.rows),
                "available": chosen.available,
                "training": chosen.training,
            }
            for name, chosen in leaderboard.scans.items()
        },
        "presets": {
            name: {"preset": suite.systems[name].preset.name, "weights": models}
            for name, models in leaderboard.models.items()
        },
        "entries": [_entry(entry) for entry in leaderboard.entries],
        "sensitivity": [_wording_record(entry) for entry in leaderboard.wording],
        "notes": list(leaderboard.notes),
        "unusable": list(leaderboard.unusable),
    }
    return json_text(content)


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        **_where(entry),
        "yardstick": entry.yardstick,
        "scans": entry.scans,
        "groups": entry.groups,
        "with_target": entry.with_target,
        "metric": entry.metric,
        "target": {key: _summary(each) for key, each in entry.target.items()},
        "everything": {key: _summary(each) for key, each in entry.everything.items()},
        "presence": None if entry.presence is None else asdict(entry.presence),
        **_counts(entry),
    }


def _flat(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        **_where(entry),
        "scans": entry.scans,
        "groups": entry.groups,
        "with_target": entry.with_target,
        "metric": entry.metric,
        **_spread("score", entry.target.get(entry.metric)),
        **_spread("score_all", entry.everything.get(entry.metric)),
    }
    for key, summary in entry.target.items():
        row |= _spread(key, summary)
    report = entry.presence
    row |= _with_bounds("presence_auroc", report.auroc if report else Measured())
    row |= _with_bounds("sensitivity", report.sensitivity if report else Measured())
    row |= _with_bounds("specificity", report.specificity if report else Measured())
    row["presence_error"] = math.nan if report is None else report.error
    return {**row, **_counts(entry)}


def _counts(entry: Entry) -> dict[str, Any]:
    return {
        "called_absent": entry.called_absent,
        "drawn_in_absent": entry.drawn_in_absent,
        "missing": entry.missing,
        "refused": entry.refused,
        "seconds": entry.seconds,
    }


def _wording_record(entry: WordingEntry) -> dict[str, Any]:
    return {
        **_asked(entry),
        **{name: _summary(getattr(entry, name)) for name in _EFFECTS},
    }


def _flat_wording(entry: WordingEntry) -> dict[str, Any]:
    row = _asked(entry)
    for name in _EFFECTS:
        row |= _spread(name, getattr(entry, name))
    return row


def _where(entry: Entry) -> dict[str, Any]:
    cell = entry.cell
    return {"set": cell.set.name, "prompt": cell.kind, "preset": cell.system.name, "seed": cell.seed}


def _asked(entry: WordingEntry) -> dict[str, Any]:
    return {
        "set": entry.cell.set.name,
        "preset": entry.cell.system.name,
        "kind": entry.kind,
        "phrase": entry.phrase,
        "scans": entry.scans,
        "missing": entry.missing,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "count": summary.count,
        "mean": summary.mean,
        "low": summary.interval.low,
        "high": summary.interval.high,
        "median": summary.median,
    }


def _spread(name: str, summary: Summary | None) -> dict[str, float]:
    if summary is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
    return {name: summary.mean, f"{name}_low": summary.interval.low, f"{name}_high": summary.interval.high}


def _with_bounds(name: str, measured: Measured) -> dict[str, float]:
    low, high = measured.interval
    return {name: measured.value, f"{name}_low": low, f"{name}_high": high}

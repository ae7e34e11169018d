"""The leaderboard as Markdown, CSV and JSON; equal ones, equal bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from lexiseg.benchmark.entries import Entry, ReactionEntry
from lexiseg.benchmark.leaderboard import Leaderboard
from lexiseg.benchmark.tables import to_markdown
from lexiseg.evaluation.presence import Measured
from lexiseg.evaluation.statistics import Summary
from lexiseg.files import atomic_write

_REACTION = ("absent", "presence", "presence_change", "pearson", "spearman", "map_change")


def write_leaderboard(leaderboard: Leaderboard, out: Path) -> list[Path]:
    """Write leaderboard.md, leaderboard.csv, leaderboard.json and, where it was asked for, sensitivity.csv.

    Raises:
        UnwritableResult: the file system refused.
    """
    texts = {
        "leaderboard.md": to_markdown(leaderboard),
        "leaderboard.csv": to_csv([_flat(entry) for entry in leaderboard.entries]),
        "leaderboard.json": to_json(leaderboard),
    }
    if leaderboard.reactions:
        texts["sensitivity.csv"] = to_csv([_flat_reaction(entry) for entry in leaderboard.reactions])
    return [atomic_write(out / name, partial(_put, text.encode())) for name, text in texts.items()]


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
        "sensitivity": [_reaction(entry) for entry in leaderboard.reactions],
        "notes": list(leaderboard.notes),
        "unusable": list(leaderboard.unusable),
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal columns as CSV; undefined numbers are empty."""
    text = io.StringIO(newline="")
    columns = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: "" if value is None else value for name, value in _plain(row).items()} for row in rows)
    return text.getvalue()


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
    row |= _measured("presence_auroc", report.auroc if report else Measured())
    row |= _measured("sensitivity", report.sensitivity if report else Measured())
    row |= _measured("specificity", report.specificity if report else Measured())
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


def _reaction(entry: ReactionEntry) -> dict[str, Any]:
    return {
        **_asked(entry),
        **{name: _summary(getattr(entry, name)) for name in _REACTION},
    }


def _flat_reaction(entry: ReactionEntry) -> dict[str, Any]:
    row = _asked(entry)
    for name in _REACTION:
        row |= _spread(name, getattr(entry, name))
    return row


def _where(entry: Entry) -> dict[str, Any]:
    cell = entry.cell
    return {"set": cell.set.name, "prompt": cell.kind, "preset": cell.system.name, "seed": cell.seed}


def _asked(entry: ReactionEntry) -> dict[str, Any]:
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


def _measured(name: str, measured: Measured) -> dict[str, float]:
    low, high = measured.interval
    return {name: measured.value, f"{name}_low": low, f"{name}_high": high}


def _plain(value: Any) -> Any:
    """Plain values; ten digits, beyond which a sum's order shows."""
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)

"""An evaluation as plain values: CSV and JSON."""

from __future__ import annotations

import math
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from lexiseg.evaluation.report.writing import csv_text, json_text
from lexiseg.evaluation.results import Evaluation, Stratum, SystemEvaluation
from lexiseg.version import __version__


def cases_csv(evaluation: Evaluation) -> str:
    """A row for each system and scan."""
    by, keys = evaluation.settings.by, evaluation.metrics
    header = ["system", "id", "group", *(f"by_{column}" for column in by), "status", "reason", "empty",
              "truly_present", "found", "presence", "confidence", "truth_size", "predicted_size", "size_unit",
              *keys, "notes"]  # fmt: skip
    return csv_text(
        header,
        (
            [
                system.name, case.id, case.group, *(case.strata[column] for column in by), case.status.value,
                case.reason, case.emptiness.value if case.emptiness else "", case.truly_present,
                case.found, case.presence, case.confidence, case.truth_size, case.predicted_size,
                case.size_unit, *(case.values.get(key, math.nan) for key in keys), "; ".join(case.notes),
            ]
            for system in evaluation.systems
            for case in system.cases
        ),
    )  # fmt: skip


def summary_csv(evaluation: Evaluation) -> str:
    """A row for each system, stratum and metric."""
    header = ["system", "column", "value", "metric", "count", "left_out", "mean", "mean_low", "mean_high",
              "median", "quartile_1", "quartile_3", "pooled", "pooled_low", "pooled_high"]  # fmt: skip
    return csv_text(
        header,
        (
            [system.name, *stratum, key, each.count, each.left_out, each.mean, *each.interval, each.median,
             *each.quartiles, each.pooled, *each.pooled_interval]
            for system in evaluation.systems
            for stratum, summaries in system.summaries.items()
            for key in evaluation.metrics
            if (each := summaries.get(key)) is not None
        ),
    )  # fmt: skip


def comparisons_csv(evaluation: Evaluation) -> str:
    """A row for each two systems and metric."""
    header = ["metric", "first", "second", "cases", "groups", "difference", "low", "high", "first_larger",
              "second_larger", "rank_biserial", "p", "p_holm"]  # fmt: skip
    return csv_text(
        header,
        (
            [each.metric, each.first, each.second, each.cases, each.groups, each.difference, *each.interval,
             each.first_larger, each.second_larger, each.effect, each.p, each.p_holm]
            for each in evaluation.comparisons
        ),
    )  # fmt: skip


def versions() -> dict[str, str]:
    """What computed the numbers."""
    packages = {name: metadata.version(name) for name in ("numpy", "scipy")}
    return {"lexiseg": __version__, "python": platform.python_version(), **packages}


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the single cases, which are in cases.csv; undefined numbers are NaN."""
    settings = asdict(evaluation.settings)
    return {
        "versions": versions(),
        "manifest": evaluation.manifest,
        "settings": {**settings, "empty": evaluation.settings.empty.value},
        "metrics": evaluation.metrics,
        "unusable": [asdict(each) for each in evaluation.unusable],
        "systems": [_system(evaluation, system) for system in evaluation.systems],
        "comparisons": [asdict(each) for each in evaluation.comparisons],
    }


def to_json(evaluation: Evaluation) -> str:
    """The record as text."""
    return json_text(record(evaluation))


def _system(evaluation: Evaluation, system: SystemEvaluation) -> dict[str, Any]:
    return {
        "name": system.name,
        "failed": [{"id": case.id, "status": case.status.value, "reason": case.reason} for case in system.failed()],
        "others": list(system.others),
        "notes": {case.id: list(case.notes) for case in system.cases if case.notes},
        "strata": [_stratum(evaluation, system, stratum) for stratum in evaluation.strata],
    }


def _stratum(evaluation: Evaluation, system: SystemEvaluation, stratum: Stratum) -> dict[str, Any]:
    summaries = system.summaries[stratum]
    return {
        "column": stratum[0],
        "value": stratum[1],
        "counts": system.counts(stratum),
        "metrics": {key: asdict(summaries[key]) for key in evaluation.metrics if key in summaries},
        "presence": asdict(system.presence[stratum]),
    }

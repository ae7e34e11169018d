"""An evaluation as plain values, for JSON."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import lexiseg
from lexiseg.evaluation.evaluation import Evaluation, Stratum, SystemEvaluation


def versions() -> dict[str, str]:
    """What computed the numbers."""
    packages = {name: metadata.version(name) for name in ("numpy", "scipy")}
    return {"lexiseg": lexiseg.__version__, "python": platform.python_version(), **packages}


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything but the single cases, which are in cases.csv; undefined numbers are null."""
    settings = asdict(evaluation.settings)
    plain: dict[str, Any] = _plain(
        {
            "versions": versions(),
            "manifest": evaluation.manifest,
            "settings": {**settings, "empty": evaluation.settings.empty.value},
            "metrics": evaluation.metrics,
            "unusable": [asdict(each) for each in evaluation.unusable],
            "systems": [_system(evaluation, system) for system in evaluation.systems],
            "comparisons": [asdict(each) for each in evaluation.comparisons],
        }
    )
    return plain


def to_json(evaluation: Evaluation) -> str:
    """The record as text."""
    return json.dumps(record(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _system(evaluation: Evaluation, system: SystemEvaluation) -> dict[str, Any]:
    return {
        "name": system.name,
        "failed": [
            {"id": case.id, "status": case.status.value, "reason": case.reason} for case in system.failed()
        ],
        "others": list(system.others),
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


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value

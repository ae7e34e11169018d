"""Folders of predictions and a manifest in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.datasets import ManifestRow, read_manifest
from lexiseg.errors import UsageError
from lexiseg.evaluation.cases import Case, PredictionFolder, system_names
from lexiseg.evaluation.evaluation import EVERYTHING, Evaluation, Stratum, SystemEvaluation, members
from lexiseg.evaluation.presence import report_presence
from lexiseg.evaluation.scoring import Count, Progress, SystemReader, score_systems
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Comparison, Summary, compare_pairs, summarise
from lexiseg.scans import printable, safe_id


def evaluate(
    manifest: str | Path,
    systems: Sequence[str | Path],
    settings: EvaluationSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the predictions of one or more systems on the scans of a manifest.

    Predictions are found by id, never by order. One that is missing, damaged, not binary, or of another size
    or affine than the truth scores the worst value of each metric and is listed with the reason: no system
    gains by leaving its hard scans out. A row whose truth cannot be used is left out for every system, and
    listed.

    Args:
        manifest: a CSV, see `read_manifest`.
        systems: folders of predictions; the first is the one in question.
        settings: what decides the numbers; `EvaluationSettings()` when None.
        progress: is told how many scans of how many are done.

    Returns:
        The evaluation; equal files and settings give an equal one.

    Raises:
        BadManifest: see `read_manifest`.
        UsageError: no system, a folder that is missing or holds no prediction of any id, a results.csv that
            is none, an unknown column to summarise by, or no row with a usable truth.
    """
    settings = settings or EvaluationSettings()
    if not systems:
        raise UsageError("no folder of predictions was given; name at least one")
    rows = read_manifest(manifest)
    label = printable(str(manifest))
    _refuse_columns(rows, settings.by, label)
    names = system_names([Path(each) for each in systems])
    readers = [SystemReader(each, rows, settings.text) for each in systems]
    for reader in readers:
        if not reader.found:
            raise UsageError(
                f"{printable(str(reader.folder.path))}: no prediction of any of the manifest's {len(rows)} "
                f"ids; expected files such as {safe_id(rows[0].id)}_mask.png"
            )
    count = Count(len(rows), progress)
    scored = score_systems(rows, readers, settings, beneath=Path(manifest).parent, tell=count.one)
    if not scored.cases[0]:
        raise UsageError(
            f"{label}: no row has a truth to compare with; the first: {scored.unusable[0].reason}"
        )
    ids = [row.id for row in rows]
    return Evaluation(
        manifest=Path(manifest).name,
        rows={row.id: row for row in rows},
        systems=tuple(
            _summarised(name, reader.folder, cases, settings, others=reader.folder.others(ids))
            for name, reader, cases in zip(names, readers, scored.cases, strict=True)
        ),
        comparisons=_compared(names, scored.cases, settings),
        unusable=scored.unusable,
        settings=settings,
    )


def _refuse_columns(rows: Sequence[ManifestRow], columns: Sequence[str], label: str) -> None:
    known = sorted({"label", "group", "text"} | {name for row in rows for name in row.extra})
    for column in columns:
        if column not in known:
            raise UsageError(
                f"{label}: there is no column {column} to summarise by; expected one of {', '.join(known)}"
            )


def _summarised(
    name: str,
    folder: PredictionFolder,
    cases: tuple[Case, ...],
    settings: EvaluationSettings,
    *,
    others: Sequence[str],
) -> SystemEvaluation:
    strata: list[Stratum] = [EVERYTHING]
    for column in settings.by:
        strata += [(column, value) for value in sorted({case.strata[column] for case in cases})]
    return SystemEvaluation(
        name=name,
        folder=folder.path,
        cases=cases,
        summaries={stratum: _summaries(members(cases, stratum), settings) for stratum in strata},
        presence={
            stratum: report_presence(members(cases, stratum), settings.bootstrap) for stratum in strata
        },
        others=tuple(others),
    )


def _summaries(cases: Sequence[Case], settings: EvaluationSettings) -> Mapping[str, Summary]:
    found = {}
    for key in sorted({key for case in cases for key in case.values}):
        # A case that does not know the metric at all (another unit) has no part in it.
        known = [case for case in cases if key in case.values]
        pooled = [case.fractions[key] for case in known if key in case.fractions]
        found[key] = summarise(
            [case.values[key] for case in known],
            [case.group for case in known],
            fractions=pooled if len(pooled) == len(known) else None,
            bootstrap=settings.bootstrap,
        )
    return found


def _compared(
    names: Sequence[str], cases: Sequence[Sequence[Case]], settings: EvaluationSettings
) -> tuple[Comparison, ...]:
    if len(names) < 2:
        return ()
    found: list[Comparison] = []
    groups = [case.group for case in cases[0]]
    for key in sorted({key for scored in cases for case in scored for key in case.values}):
        values = {
            name: [case.values.get(key, float("nan")) for case in scored]
            for name, scored in zip(names, cases, strict=True)
        }
        found += compare_pairs(key, values, groups, bootstrap=settings.bootstrap)
    return tuple(found)

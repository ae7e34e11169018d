"""Folders of predictions and a manifest in, numbers out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.evaluation.cases import Case, score_case
from lexiseg.evaluation.predictions import (
    Prediction,
    PredictionFolder,
    ReportedTarget,
    place_of_phrase,
    read_prediction,
    read_reported,
)
from lexiseg.evaluation.presence import report_presence
from lexiseg.evaluation.results import EVERYTHING, Evaluation, Stratum, SystemEvaluation, Unusable, members
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Comparison, Summary, compare_pairs, summarise
from lexiseg.evaluation.truths import Truth, read_truth
from lexiseg.io.names import printable, safe_id

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class Count:
    """Tells how many of `total` scans are done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = -1, total, progress
        self.one()

    def one(self) -> None:
        """One more."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


class SystemReader:
    """Reads one system's predictions by the ids of a manifest.

    Attributes:
        folder: where they are.
        found: how many of the ids have a mask.
        missing: how many have none, or none of the phrase.
        has_saliency: whether any of those has a saliency map.

    Args:
        folder: of predictions.
        rows: of the manifest.
        text: the phrase whose masks are meant, where there are several.
    """

    def __init__(self, folder: str | Path, rows: Sequence[ManifestRow], text: str | None = None) -> None:
        self.folder = PredictionFolder.open(folder)
        self._text = text
        self._reported = {safe_id(name): each for name, each in read_reported(self.folder.path).items()}
        found = [row.id for row in rows if _there(self.folder.mask, row.id)]
        self.found = len(found)
        self.missing = len(rows) - sum(self._phrase_asked(each) for each in found)
        self.has_saliency = any(_there(self.folder.saliency, each) for each in found)

    def _phrase_asked(self, id: str) -> bool:
        reported = self._reported.get(safe_id(id), ())
        return self._text is None or not reported or place_of_phrase(reported, self._text) is not None

    def read(self, id: str, truth: Truth) -> Prediction | UnreadableScan | str:
        """The prediction, why it is refused, or why it is missing."""
        reported: tuple[ReportedTarget, ...] = self._reported.get(safe_id(id), ())
        try:
            found = read_prediction(self.folder, id, truth, reported=reported, text=self._text)
        except UnreadableScan as error:
            logger.warning("%s: refused: %s", self.folder.path.name, error)
            return UnreadableScan(_within(self.folder.path, error))
        if found is not None:
            return found
        failed = next((target.error for target in reported if target.error), "")
        if failed:
            return f"its run failed: {failed}"
        return f"no {safe_id(id)}_mask.png or the like" + (f" for {self._text!r}" if self._text else "")


@dataclass(frozen=True)
class Scored:
    """What `score_systems` found.

    Attributes:
        cases: for each system, in the rows' order, the same scans for every system.
        unusable: the rows whose truth cannot be used; nobody is scored on them.
    """

    cases: tuple[tuple[Case, ...], ...]
    unusable: tuple[Unusable, ...]


def score_systems(
    rows: Sequence[ManifestRow],
    systems: Sequence[SystemReader],
    settings: EvaluationSettings,
    *,
    beneath: Path,
    tell: Callable[[], None] = lambda: None,
) -> Scored:
    """Score systems on the rows of a manifest.

    A prediction that is missing or refused scores the worst value of each metric; a row whose truth cannot be
    used is left out for everybody.

    Args:
        rows: of the manifest.
        systems: of at least one.
        settings: what decides the numbers.
        beneath: the folder that paths are relative to; reasons name files relative to it.
        tell: called after each row.
    """
    has_boxes = any(row.boxes for row in rows)
    cases: list[list[Case]] = [[] for _ in systems]
    unusable = []
    for row in rows:
        try:
            truth = read_truth(row, has_boxes=has_boxes, absent=settings.absent)
        except UnreadableScan as error:
            unusable.append(Unusable(row.id, _within(beneath, error)))
        else:
            for system, scored in zip(systems, cases, strict=True):
                scored.append(
                    score_case(
                        row.id,
                        truth,
                        system.read(row.id, truth),
                        group=row.group or row.id,
                        strata=_strata(row, settings.by),
                        settings=settings,
                        has_saliency=system.has_saliency,
                    )
                )
        tell()
    return Scored(tuple(map(tuple, cases)), tuple(unusable))


def _within(folder: Path, error: UnreadableScan) -> str:
    """An error's line with paths relative to a folder: a report does not tell of the machine."""
    return printable(str(error)).replace(f"{printable(str(folder))}{os.sep}", "")


def _there(find: Callable[[str], Path | None], id: str) -> bool:
    """Whether a file is there, be it one that cannot be read."""
    try:
        return find(id) is not None
    except UnreadableScan:
        return True


def _strata(row: ManifestRow, columns: Sequence[str]) -> dict[str, str]:
    known = {**row.extra, "label": row.label, "group": row.group, "text": row.text}
    return {column: printable(known.get(column, "")) or "(none)" for column in columns}


def evaluate(
    manifest: str | Path,
    systems: Sequence[str | Path],
    settings: EvaluationSettings | None = None,
    *,
    root: str | Path | None = None,
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
        root: what the manifest's paths are relative to and where they may lead; its own folder when None.
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
    rows = read_manifest(manifest, root=root)
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
    for reader in readers:
        if reader.missing:
            logger.warning(
                "%d of %d scans of %s have no mask in %s%s: they score 0",
                reader.missing,
                len(rows),
                printable(Path(manifest).name),
                printable(str(reader.folder.path)),
                f" for {settings.text!r}" if settings.text else "",
            )
    count = Count(len(rows), progress)
    beneath = Path(manifest).parent if root is None else Path(root)
    scored = score_systems(rows, readers, settings, beneath=beneath, tell=count.one)
    if not scored.cases[0]:
        raise UsageError(f"{label}: no row has a truth to compare with; the first: {scored.unusable[0].reason}")
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


def system_names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder of predictions: the last parts of its path, as many as tell it from the others.

    Raises:
        UsageError: a folder is given twice.
    """
    places = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  (resolve() follows links)
    for k, place in enumerate(places):
        if place in places[:k]:
            raise UsageError(f"{printable(str(folders[k]))}: it is given twice; name each system once")
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return [printable(name) for name in names]


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
        presence={stratum: report_presence(members(cases, stratum), settings.bootstrap) for stratum in strata},
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

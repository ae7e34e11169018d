"""Folders of predictions and a manifest in, numbers out."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow, read_manifest
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.evaluation.cases import OTHER_IMAGE, Case, score_case
from lexiseg.evaluation.presence import report_presence
from lexiseg.evaluation.results import EVERYTHING, Evaluation, Stratum, SystemEvaluation, Unusable, members
from lexiseg.evaluation.settings import EvaluationSettings, same_phrase
from lexiseg.evaluation.statistics import Comparison, Summary, compare_pairs, summarise
from lexiseg.evaluation.systems import SystemReader, within
from lexiseg.evaluation.truths import TruthReader, as_on_disk, nothing_absent
from lexiseg.io.mask_choices import Colour, are_colours, named
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
    truths = TruthReader(rows, settings, predicted=[system.look for system in systems])
    _refuse_colours(settings, truths, systems)
    cases: list[list[Case]] = [[] for _ in systems]
    unusable = []
    for row in rows:
        try:
            truth = truths.read(row)
        except UnreadableScan as error:
            unusable.append(Unusable(row.id, within(beneath, error)))
        else:
            for system, scored in zip(systems, cases, strict=True):
                scored.append(
                    score_case(
                        row.id,
                        truth,
                        system.read(row, truth, truths.look),
                        group=row.group or row.id,
                        strata=_strata(row, settings.by),
                        settings=settings,
                        has_saliency=system.has_saliency,
                        notes=(
                            *_other_phrase(system.asked(row), row.text, settings),
                            *_other_image(system.image(row), row),
                        ),
                    )
                )
        tell()
    return Scored(tuple(map(tuple, cases)), tuple(unusable))


def _other_phrase(asked: str, text: str, settings: EvaluationSettings) -> tuple[str, ...]:
    """What to say where the run was asked something else than the manifest's text."""
    if settings.text or not asked or not text or same_phrase(asked) == same_phrase(text):
        return ()
    return (f"run: it was asked for {printable(asked)!r}, the manifest's text is {printable(text[:60])!r}",)


def _other_image(reported: str, row: ManifestRow) -> tuple[str, ...]:
    """What to say where the run's scan has another name than the manifest's.

    Folders may differ, since a run has them as they were given. Of a series either may name the folder alone.
    """
    if row.error or not reported:
        return ()
    theirs, ours = (
        [part for part in unicodedata.normalize("NFC", path).replace("\\", "/").split("/") if part]
        for path in (reported, str(row.image))
    )
    if not theirs or not ours or theirs[-1] in ours or ours[-1] in theirs:
        return ()
    return (f"{OTHER_IMAGE} {printable(theirs[-1])}, the manifest's is {printable(ours[-1])}",)


def _refuse_colours(settings: EvaluationSettings, truths: TruthReader, systems: Sequence[SystemReader]) -> None:
    """Pass unless a colour was chosen and nothing has any."""
    chosen = [value for choice in (*settings.labels, *settings.true_labels) for value in choice.values]
    if are_colours(chosen) and not any(look.coloured for look in (truths.look, *(each.look for each in systems))):
        colour = named(next(value for value in chosen if isinstance(value, Colour)), colours=True)
        raise UsageError(f"the label is the colour {colour}, and all masks are grey; choose a number such as --label 2")


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

    Predictions are found by id, never by order. One that is missing, damaged, of several values, or of another size
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
            is none or has several phrases of which none was chosen, an unknown column to summarise by, a label of a
            target that no row names, a colour where all masks are grey, or no row with a usable truth.
    """
    settings = settings or EvaluationSettings()
    if not systems:
        raise UsageError("no folder of predictions was given; name at least one")
    rows = [as_on_disk(row) for row in read_manifest(manifest, root=root)]
    label = printable(str(manifest))
    _refuse_columns(rows, settings.by, label)
    _refuse_labels(rows, settings, label)
    names = system_names([Path(each) for each in systems])
    readers = [SystemReader(each, rows, settings) for each in systems]
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
        told = nothing_absent({row.label for row in rows} - {""}, settings)
        raise UsageError(
            f"{label}: no row has a truth to compare with; {f'{told}; ' if told else ''}the first: "
            f"{scored.unusable[0].reason}"
        )
    ids = [row.id for row in rows]
    return Evaluation(
        manifest=Path(manifest).name,
        rows={row.id: row for row in rows},
        systems=tuple(
            _summarised(name, reader, cases, settings, others=reader.folder.others(ids))
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


def _refuse_labels(rows: Sequence[ManifestRow], settings: EvaluationSettings, label: str) -> None:
    known = {same_phrase(name) for row in rows for name in (row.text, row.label, settings.text or "")}
    for choice in (*settings.labels, *settings.true_labels):
        if choice.name and choice.name not in known:
            raise UsageError(
                f"{label}: no row's text or label is {choice.name!r}; expected --label NUMBER, or --label NAME=NUMBER "
                "with a name that is there"
            )


def _summarised(
    name: str,
    reader: SystemReader,
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
        folder=reader.folder.path,
        cases=cases,
        summaries={stratum: _summaries(members(cases, stratum), settings) for stratum in strata},
        presence={stratum: report_presence(members(cases, stratum), settings.bootstrap) for stratum in strata},
        others=tuple(others),
        look=reader.look,
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

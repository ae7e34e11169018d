"""Several systems' predictions of the same scans: each truth is read once, and all are scored on it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.cases import (
    Answer,
    Case,
    Prediction,
    PredictionFolder,
    Truth,
    read_answers,
    read_prediction,
    read_truth,
    score_case,
)
from lexiseg.evaluation.evaluation import Unusable
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.scans import printable, safe_id

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
        has_saliency: whether any of those has a saliency map.

    Args:
        folder: of predictions.
        rows: of the manifest.
        text: the phrase whose masks are meant, where there are several.
    """

    def __init__(self, folder: str | Path, rows: Sequence[ManifestRow], text: str | None = None) -> None:
        self.folder = PredictionFolder.open(folder)
        self._text = text
        self._answers = {safe_id(name): answer for name, answer in read_answers(self.folder.path).items()}
        found = [row.id for row in rows if _there(self.folder.mask, row.id)]
        self.found = len(found)
        self.has_saliency = any(_there(self.folder.saliency, each) for each in found)

    def read(self, id: str, truth: Truth) -> Prediction | UnreadableScan | str:
        """The prediction, why it is refused, or why it is missing."""
        answers: tuple[Answer, ...] = self._answers.get(safe_id(id), ())
        try:
            found = read_prediction(self.folder, id, truth, answers=answers, text=self._text)
        except UnreadableScan as error:
            logger.warning("%s: refused: %s", self.folder.path.name, error)
            return UnreadableScan(_within(self.folder.path, error))
        if found is not None:
            return found
        failed = next((answer.error for answer in answers if answer.error), "")
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
        beneath: the manifest's folder; reasons name files relative to it.
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

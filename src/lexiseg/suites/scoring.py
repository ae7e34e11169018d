"""Cells' masks against the truth of their set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.evaluation import EvaluationSettings
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
from lexiseg.scans import printable, safe_id


@dataclass(frozen=True)
class SetScores:
    """All cells of one set.

    Attributes:
        cases: by the cell's folder, in the manifest's order, the same scans for every cell.
        unusable: each row that no cell is scored on, and why.
    """

    cases: Mapping[Path, tuple[Case, ...]]
    unusable: tuple[str, ...]


def score_set(
    rows: Sequence[ManifestRow],
    folders: Sequence[Path],
    settings: EvaluationSettings,
    *,
    tell: Callable[[], None] = lambda: None,
) -> SetScores:
    """Score folders of masks on the rows of a set; each truth is read once.

    As in `lexiseg.evaluation.evaluate`, a prediction that is missing or refused scores the worst value, and a
    row whose truth cannot be used is left out for everybody.

    Args:
        rows: of the set.
        folders: of predictions, all of them there.
        settings: what decides the numbers.
        tell: called after each row.
    """
    has_boxes = any(row.boxes for row in rows)
    readers = [_Folder(folder, rows) for folder in folders]
    cases: dict[Path, list[Case]] = {folder: [] for folder in folders}
    unusable = []
    for row in rows:
        try:
            truth = read_truth(row, has_boxes=has_boxes, absent=settings.absent)
        except UnreadableScan as error:
            unusable.append(f"{printable(row.id)}: {printable(str(error))}")
        else:
            for reader in readers:
                cases[reader.files.path].append(
                    score_case(
                        row.id,
                        truth,
                        reader.read(row.id, truth),
                        group=row.group or row.id,
                        strata={},
                        settings=settings,
                        has_saliency=reader.has_saliency,
                    )
                )
        tell()
    return SetScores({folder: tuple(found) for folder, found in cases.items()}, tuple(unusable))


class _Folder:
    """One cell's predictions."""

    def __init__(self, folder: Path, rows: Sequence[ManifestRow]) -> None:
        self.files = PredictionFolder.open(folder)
        self._answers = {safe_id(name): answers for name, answers in read_answers(folder).items()}
        self.has_saliency = any(self.files.saliency(row.id) is not None for row in rows)

    def read(self, id: str, truth: Truth) -> Prediction | UnreadableScan | str:
        answers: tuple[Answer, ...] = self._answers.get(safe_id(id), ())
        try:
            found = read_prediction(self.files, id, truth, answers=answers)
        except UnreadableScan as error:
            return error
        if found is not None:
            return found
        failed = next((answer.error for answer in answers if answer.error), "")
        return f"its run failed: {failed}" if failed else "no mask"

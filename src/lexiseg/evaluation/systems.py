"""One system's predictions, by the rows of a manifest."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.evaluation.predictions import (
    RESULTS,
    Prediction,
    PredictionFolder,
    ReportedTarget,
    nothing_was_written,
    place_of_phrase,
    read_prediction,
    read_reported,
)
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.truths import Look, Truth, look_at_masks
from lexiseg.io.mask_choices import Side
from lexiseg.io.names import printable, safe_id

logger = logging.getLogger(__name__)


class SystemReader:
    """Reads one system's predictions by the rows of a manifest.

    A folder with a results.csv belongs to that run: a scan that the table does not list, or lists as failed, has no
    prediction, whatever files of earlier runs lie there.

    Attributes:
        folder: where they are.
        found: how many of the rows have a mask.
        missing: how many have none, or none of the phrase.
        has_saliency: whether any of those has a saliency map.
        look: what all its masks hold together.

    Args:
        folder: of predictions.
        rows: of the manifest.
        settings: of the evaluation; its phrase is meant where a run asked for several, else the row's text.

    Raises:
        UsageError: see `evaluate`.
    """

    def __init__(
        self, folder: str | Path, rows: Sequence[ManifestRow], settings: EvaluationSettings | None = None
    ) -> None:
        self._settings = settings or EvaluationSettings()
        self.folder = PredictionFolder.open(folder)
        self._reported = {safe_id(name): each for name, each in read_reported(self.folder.path).items()}
        self._has_table = RESULTS in self.folder.names
        for row in rows:
            self._refuse_undecided(row)
        found = [row for row in rows if not self._unanswered(row) and self._has_answer(row)]
        self.found = len(found)
        self.missing = len(rows) - sum(self._phrase_asked(row) for row in found)
        self.has_saliency = any(_there(self.folder.saliency, row.id) for row in found)
        self.look = look_at_masks(self._plain_masks(found), self._settings.labels)

    def read(self, row: ManifestRow, truth: Truth, true: Look) -> Prediction | UnreadableScan | str:
        """The prediction, why it is refused, or why it is missing.

        Args:
            row: of the manifest.
            truth: of the row.
            true: what all true masks hold together.
        """
        if reason := self._unanswered(row):
            return reason
        labels = self._settings.labels_for((row.text, row.label))
        try:
            found = read_prediction(
                self.folder,
                row.id,
                truth,
                reported=self._of(row),
                text=(text := self._phrase(row)),
                labels=labels,
                side=self._side(row, true),
            )
        except UnreadableScan as error:
            logger.warning("%s: refused: %s", self.folder.path.name, error)
            return UnreadableScan(within(self.folder.path, error))
        if found is not None:
            return found
        return f"no {safe_id(row.id)}_mask.png or the like" + (f" for {text!r}" if text else "")

    def _side(self, row: ManifestRow, true: Look) -> Side:
        """What is known of a scan's mask: where the run's table names its one phrase, it is that phrase's."""
        side = self.look.side_beside([true])
        return Side.own if self._of(row) and side is not Side.maps else side

    def asked(self, row: ManifestRow) -> str:
        """The one phrase that the run was asked on a scan; "" where there are several, or nobody knows."""
        reported = self._of(row)
        return reported[0].text if len(reported) == 1 else ""

    def image(self, row: ManifestRow) -> str:
        """The path of the scan that the run answered; "" where nobody knows."""
        return next((target.image for target in self._of(row)), "")

    def _of(self, row: ManifestRow) -> tuple[ReportedTarget, ...]:
        return self._reported.get(safe_id(row.id), ())

    def _phrase(self, row: ManifestRow) -> str | None:
        """The phrase whose mask is wanted: the one that was given, or of several the row's text."""
        return self._settings.text or (row.text if len(self._of(row)) > 1 else None)

    def _refuse_undecided(self, row: ManifestRow) -> None:
        reported = self._of(row)
        if len(reported) < 2 or self._settings.text or place_of_phrase(reported, row.text) is not None:
            return
        phrases = ", ".join(repr(printable(target.text)) for target in reported)
        raise UsageError(
            f"{printable(str(self.folder.path))}: {printable(row.id)} was asked for {phrases}, and no text in its "
            "row of the manifest says which is meant; choose with --text, or fill the column text"
        )

    def _unanswered(self, row: ManifestRow) -> str:
        """Why the run's table says that there is no prediction; "" where it does not."""
        if not self._has_table:
            return ""
        reported = self._of(row)
        if not reported:
            if _there(self.folder.mask, row.id):
                return "results.csv does not list it; the mask that lies there is of another run"
            return "results.csv does not list it"
        failed = next((target.error for target in reported if target.error), "")
        return f"its run failed: {failed}" if failed else ""

    def _has_answer(self, row: ManifestRow) -> bool:
        """Whether there is a mask, or the run found nothing and so wrote none."""
        return _there(self.folder.mask, row.id) or nothing_was_written(self._of(row))

    def _phrase_asked(self, row: ManifestRow) -> bool:
        reported, text = self._of(row), self._phrase(row)
        return text is None or not reported or place_of_phrase(reported, text) is not None

    def _plain_masks(self, rows: Sequence[ManifestRow]) -> list[Path | None]:
        """The masks of scans of which no table tells several phrases apart."""
        masks = []
        for row in rows:
            if len(self._of(row)) < 2:
                try:
                    masks.append(self.folder.mask(row.id))
                except UnreadableScan:
                    continue
        return masks


def within(folder: Path, error: UnreadableScan) -> str:
    """An error's line with paths relative to a folder: a report does not tell of the machine."""
    return printable(str(error)).replace(f"{printable(str(folder))}{os.sep}", "")


def _there(find: Callable[[str], Path | None], id: str) -> bool:
    """Whether a file is there, be it one that cannot be read."""
    try:
        return find(id) is not None
    except UnreadableScan:
        return True

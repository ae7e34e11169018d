"""The best, the middling and the worst cases of a system, as pictures."""

from __future__ import annotations

import base64
import io
import logging
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.metrics.catalogue import Emptiness
from lexiseg.evaluation.predictions import Prediction
from lexiseg.evaluation.results import Evaluation, SystemEvaluation
from lexiseg.evaluation.systems import SystemReader
from lexiseg.evaluation.truths import TruthReader
from lexiseg.io.names import printable
from lexiseg.io.pictures import COLOURS, overlay
from lexiseg.io.read import read_scan
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Plane, Scan

logger = logging.getLogger(__name__)

_BOTH, _MISSED, _EXTRA = 3, 2, 5
_SIDE = 320

RANKS = ("best", "median", "worst")
"""Which cases are shown, in this order."""

_WORDS = {_BOTH: "truth and prediction", _MISSED: "truth alone", _EXTRA: "prediction alone"}

LEGEND = tuple((COLOURS[label - 1], words) for label, words in _WORDS.items())
"""Colour and meaning of what is tinted."""


@dataclass(frozen=True)
class Picture:
    """A case as it is shown.

    Attributes:
        rank: "best", "median" or "worst".
        case: with its scores.
        source: the picture as a data URL; "" where the scan cannot be shown, `note` saying why.
        note: a few words on it.
    """

    rank: str
    case: Case
    source: str
    note: str = ""


def chosen_cases(system: SystemEvaluation, count: int) -> list[tuple[str, Case]]:
    """Up to `count` best, median and worst cases by Dice (or box IoU), each shown once; ties by id."""
    ranked = sorted(
        # Of an empty mask that is rightly empty there is nothing to see.
        (case for case in system.cases if not math.isnan(case.quality) and case.emptiness is not Emptiness.both),
        key=lambda case: (-case.quality, case.status is not Status.ok, case.id),
    )
    middle = max(0, (len(ranked) - count) // 2)
    wanted = [
        *(("best", k) for k in range(min(count, len(ranked)))),
        *(("worst", k) for k in range(max(0, len(ranked) - count), len(ranked))),
        *(("median", k) for k in range(middle, min(len(ranked), middle + count))),
    ]
    taken: dict[int, str] = {}
    for rank, place in wanted:
        taken.setdefault(place, rank)
    return sorted(
        ((rank, ranked[place]) for place, rank in taken.items()),
        key=lambda each: (RANKS.index(each[0]), -each[1].quality),
    )


def draw_gallery(evaluation: Evaluation, system: SystemEvaluation, *, count: int = 5) -> list[Picture]:
    """Draw a system's chosen cases; a volume is shown by its slice with most of truth and prediction.

    Args:
        evaluation: that the system is of.
        system: whose cases are shown.
        count: of each kind; 0 for none.
    """
    rows = list(evaluation.rows.values())
    reader = SystemReader(system.folder, rows, evaluation.settings)
    truths = TruthReader(
        rows, evaluation.settings, predicted=[each.look for each in evaluation.systems], has_boxes=True
    )
    return [_picture(evaluation, reader, truths, rank, case) for rank, case in chosen_cases(system, count)]


def _picture(evaluation: Evaluation, reader: SystemReader, truths: TruthReader, rank: str, case: Case) -> Picture:
    row = evaluation.rows[case.id]
    note = case.status.value if case.status is not Status.ok else ""
    try:
        truth = truths.read(row)
        scan = read_scan(row.image)
        if scan.shape != truth.shape:
            raise UnreadableScan(f"the scan has shape {scan.shape}, its mask {truth.shape}")
        predicted = np.zeros(truth.shape, bool)
        if case.status is Status.ok:
            found = reader.read(row, truth, truths.look)
            predicted = found.mask if isinstance(found, Prediction) else predicted
        shown, true_mask, predicted = _plane(scan, truth.mask, predicted)
    except UnreadableScan as error:
        logger.warning("%s is not shown in the report: %s", printable(case.id), error)
        return Picture(rank, case, "", note or "the scan cannot be shown")
    boxes = np.array(truth.boxes, np.float64).reshape(-1, 4) if truth.mask is None and truth.boxes else None
    true = np.zeros_like(predicted) if true_mask is None else true_mask
    labels = np.zeros(predicted.shape, np.uint8)
    labels[true & predicted], labels[true & ~predicted] = _BOTH, _MISSED
    labels[~true & predicted] = _EXTRA
    drawn = Image.fromarray(overlay(shown, labels, boxes=boxes, opacity=0.25))
    drawn.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    drawn.save(content, format="JPEG", quality=88, subsampling=0)
    source = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
    return Picture(rank, case, source, note)


def _plane(scan: Scan, truth: BoolArray | None, predicted: BoolArray) -> tuple[Plane, BoolArray | None, BoolArray]:
    """The plane in which most is true or predicted."""
    planes = scan.planes()
    predicted = planes.cut(predicted)
    filled = predicted.sum(axis=(1, 2))
    true = None if truth is None else planes.cut(truth)
    if true is not None:
        filled = filled + true.sum(axis=(1, 2))
    place = int(np.argmax(filled))
    return planes[place], None if true is None else true[place], predicted[place]

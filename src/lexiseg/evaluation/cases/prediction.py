"""A system's answer for a scan, on the truth's grid or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.cases.answers import Answer
from lexiseg.evaluation.cases.folder import PredictionFolder
from lexiseg.evaluation.cases.truth import Truth
from lexiseg.scans import BoolArray, NiftiGrid, Stored, printable, read_stored
from lexiseg.scans.read_mask import SAME_PLACE_MM


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a system answered.

    Attributes:
        mask: bool, on the truth's grid.
        found: its decision; whether the mask holds anything, where no table says.
        presence: 0 to 1, or NaN.
        confidence: 0 to 1, or NaN.
        saliency: on the truth's grid; None where there is none.
    """

    mask: BoolArray
    found: bool
    presence: float = math.nan
    confidence: float = math.nan
    saliency: NDArray[Any] | None = None


def read_prediction(
    folder: PredictionFolder,
    id: str,
    truth: Truth,
    *,
    answers: Sequence[Answer] = (),
    text: str | None = None,
) -> Prediction | None:
    """Read an id's mask and, where one phrase was asked and there is one, its saliency.

    Args:
        folder: the system's.
        id: the manifest's.
        truth: whose grid it has to have.
        answers: the id's rows of results.csv.
        text: the phrase whose mask is wanted, where several were asked; any of them when None.

    Returns:
        None where there is no mask.

    Raises:
        UnreadableScan: it is damaged, not binary, of another size or place, or there are two; one line.
    """
    several = len(answers) > 1
    label = None
    if text is not None and answers:
        phrases = [answer.text for answer in answers]
        wanted = " ".join(text.split()).casefold()
        place = next((k for k, phrase in enumerate(phrases) if phrase.casefold() == wanted), None)
        if place is None:
            return None
        label = place + 1 if several else None
        answers = [answers[place]]
    path = folder.mask(id) if label is None else folder.labels(id)
    if path is None:
        return None
    stored = read_stored(path, indices=label is not None)
    mask = stored.binary() if label is None else stored.inside(label)
    refuse_other_grid(stored, truth)
    presence, confidence = _evidence(answers)
    decisions = [answer.present for answer in answers if answer.present is not None]
    return Prediction(
        mask=mask,
        found=any(decisions) if decisions else bool(mask.any()),
        presence=presence,
        confidence=confidence,
        saliency=_saliency(None if several else folder.saliency(id), truth),
    )


def refuse_other_grid(stored: Stored, truth: Truth) -> None:
    """Pass where a file has the truth's size and, of volumes, its place.

    Raises:
        UnreadableScan: it has not; says both, on one line.
    """
    name, true_name = printable(stored.path.name), printable(truth.file.name)
    if stored.values.shape != truth.shape:
        raise UnreadableScan(
            f"{name} has {_size(stored.values.shape)}, the truth {true_name} {_size(truth.shape)}; "
            "expected the same"
        )
    if stored.grid is None or truth.grid is None:
        return
    distance = stored.grid.distance(truth.grid)
    # Not `distance > ...`: it is NaN where one of the affines is.
    if not distance <= SAME_PLACE_MM:
        raise UnreadableScan(
            f"{name} lies {distance:.3g} mm away from the truth {true_name}: its affine is "
            f"{_affine(stored.grid)}, the truth's {_affine(truth.grid)}; expected the same"
        )


def _saliency(path: Path | None, truth: Truth) -> NDArray[Any] | None:
    if path is None:
        return None
    stored = read_stored(path)
    refuse_other_grid(stored, truth)
    return stored.values


def _evidence(answers: Sequence[Answer]) -> tuple[float, float]:
    """Presence and confidence; of several phrases taken together the largest presence, and no confidence."""
    if len(answers) == 1:
        return answers[0].presence, answers[0].confidence
    known = [answer.presence for answer in answers if not math.isnan(answer.presence)]
    return max(known, default=math.nan), math.nan


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + (" pixels" if len(shape) == 2 else " voxels")


def _affine(grid: NiftiGrid) -> str:
    return "; ".join(" ".join(f"{value:.4g}" for value in row) for row in grid.affine[:3])

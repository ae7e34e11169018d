"""A prediction against its truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.cases.case import Case, Status
from lexiseg.evaluation.cases.prediction import Prediction
from lexiseg.evaluation.cases.truth import Truth
from lexiseg.evaluation.metrics import (
    MaskScore,
    pointing_game,
    saliency_auc,
    score_boxes,
    score_mask,
    worst_mask_score,
)
from lexiseg.evaluation.settings import EvaluationSettings


def score_case(
    id: str,
    truth: Truth,
    prediction: Prediction | UnreadableScan | str,
    *,
    group: str,
    strata: Mapping[str, str],
    settings: EvaluationSettings,
    has_saliency: bool = False,
) -> Case:
    """Score one scan.

    Args:
        id: the manifest's.
        truth: of the scan.
        prediction: of the scan; an error where it is refused, or the reason why it is missing. Both score the
            worst value of each metric, and count as the wrong decision on presence.
        group: the patient.
        strata: see `Case.strata`.
        settings: of the evaluation.
        has_saliency: whether the system writes saliency at all, so that a missing one scores 0.
    """
    answered = prediction if isinstance(prediction, Prediction) else None
    mask = _mask_score(truth, answered, settings)
    status, reason = Status.ok, ""
    if answered is None:
        status = Status.refused if isinstance(prediction, UnreadableScan) else Status.missing
        reason = str(prediction)
    values = {**(mask.values if mask else {}), **_box_value(truth, answered, settings)}
    if has_saliency and truth.present and truth.mask is not None:
        values.update(_saliency_values(truth, answered))
    case = Case(
        id=id,
        group=group,
        strata=strata,
        status=status,
        reason=reason,
        values=values,
        size_unit=_size_unit(truth),
        truly_present=truth.present,
    )
    return _with_answer(case, mask, answered)


def _mask_score(truth: Truth, answered: Prediction | None, settings: EvaluationSettings) -> MaskScore | None:
    if truth.mask is None:
        return None
    if answered is None:
        return worst_mask_score(truth.mask, spacing=truth.spacing, tolerance=settings.tolerance)
    return score_mask(
        truth.mask,
        answered.mask,
        spacing=truth.spacing,
        tolerance=settings.tolerance,
        empty=settings.empty,
    )


def _box_value(truth: Truth, answered: Prediction | None, settings: EvaluationSettings) -> dict[str, float]:
    if truth.boxes is None:
        return {}
    if answered is None:
        return {"box_iou": 0.0}
    return {"box_iou": score_boxes(truth.boxes, answered.mask, empty=settings.empty)}


def _saliency_values(truth: Truth, answered: Prediction | None) -> dict[str, float]:
    if truth.mask is None or answered is None or answered.saliency is None:
        return {"saliency_auc": 0.0, "pointing": 0.0}
    return {
        "saliency_auc": saliency_auc(truth.mask, answered.saliency),
        "pointing": pointing_game(truth.mask, answered.saliency),
    }


def _with_answer(case: Case, mask: MaskScore | None, answered: Prediction | None) -> Case:
    if mask is not None:
        case = replace(case, fractions=mask.fractions, truth_size=mask.truth_size)
    if mask is not None and answered is not None:
        case = replace(case, emptiness=mask.emptiness, predicted_size=mask.predicted_size)
    if answered is not None:
        case = replace(case, found=answered.found, presence=answered.presence, confidence=answered.confidence)
    return case


def _size_unit(truth: Truth) -> str:
    volume = len(truth.shape) == 3
    if truth.spacing is None:
        return "voxels" if volume else "px"
    return "mm3" if volume else "mm2"

"""A prediction against its truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.metrics.catalogue import Emptiness, EmptyRule
from lexiseg.evaluation.metrics.localisation import pointing_game, saliency_auc, score_boxes
from lexiseg.evaluation.metrics.masks import MaskScore, score_mask, worst_mask_score
from lexiseg.evaluation.metrics.volumes import largest_error, slice_fractions, volume_error
from lexiseg.evaluation.predictions import Prediction
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.truths import Truth
from lexiseg.io.mask_pictures import DRAWN_ON_TURNED, turned_by_exif
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.overlap import dice

OTHER_IMAGE = "run: its image is"
"""How the note of a case begins whose prediction was made of a scan of another name."""


class Status(StrEnum):
    """What became of a prediction."""

    ok = "ok"
    missing = "missing"
    refused = "refused"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One system's scores on one scan.

    Attributes:
        id: the manifest's.
        group: the patient; the id where the manifest names none.
        strata: the values of the columns that are summarised by.
        status: missing and refused predictions have the worst scores.
        reason: why it is missing or refused, on one line; "" for "ok".
        values: each metric by its key; NaN where undefined.
        fractions: numerator and denominator of the metrics that can be pooled.
        emptiness: which mask is empty; None without a true mask, or a prediction.
        truth_size: of the true mask, in `size_unit`; NaN without one.
        predicted_size: of the predicted mask, likewise.
        size_unit: "px", "mm2", "voxels" or "mm3".
        truly_present: whether the target is in the scan.
        found: what the system said; None where it said nothing.
        presence: its evidence for that, 0 to 1; NaN where it gave none.
        confidence: its trust in its answer, 0 to 1; NaN where it gave none.
        notes: what was decided on the way, each beginning with whose it is: "truth: ", "prediction: ", "run: ".
        unknown: the system did not know the phrase, so that its empty mask is no finding: where nothing is there its
            metrics are undefined, and where something is it was missed.
    """

    id: str
    group: str
    strata: Mapping[str, str] = field(default_factory=dict)
    status: Status = Status.ok
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    fractions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    emptiness: Emptiness | None = None
    truth_size: float = math.nan
    predicted_size: float = math.nan
    size_unit: str = ""
    truly_present: bool = True
    found: bool | None = None
    presence: float = math.nan
    confidence: float = math.nan
    notes: tuple[str, ...] = ()
    unknown: bool = False

    @property
    def quality(self) -> float:
        """The metric by which cases are called good or bad: Dice, or box IoU where there is no true mask."""
        return self.values.get("dice", self.values.get("box_iou", math.nan))


def score_case(
    id: str,
    truth: Truth,
    prediction: Prediction | UnreadableScan | str,
    *,
    group: str,
    strata: Mapping[str, str],
    settings: EvaluationSettings,
    has_saliency: bool = False,
    notes: Sequence[str] = (),
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
        notes: of the scan, besides those of truth and prediction.
    """
    answered = prediction if isinstance(prediction, Prediction) else None
    if answered is not None and answered.unknown and not truth.present and not answered.mask.any():
        # Nobody looked, so that nothing was drawn is no right answer: it is left out.
        settings = replace(settings, empty=EmptyRule.skip)
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
        notes=(*notes, *_notes(truth, answered)),
    )
    return _with_answer(case, mask, answered)


def _notes(truth: Truth, answered: Prediction | None) -> Iterator[str]:
    yield from (f"truth: {note}" for note in truth.notes)
    if answered is not None:
        yield from (f"prediction: {note}" for note in answered.notes)
        yield from filter(None, (_drawn_unturned(truth, answered.mask), _drawn_inverted(truth, answered.mask)))
        if answered.unknown:
            yield "run: the phrase is unknown to the models"
        if answered.run_notes:
            yield from (f"run: {note.strip()}" for note in answered.run_notes.split(";") if note.strip())


# So much more Dice, and the turn of the scan is the likely cause.
_CLEARLY = 0.1
_POOR = 0.2


def _drawn_unturned(truth: Truth, mask: BoolArray) -> str:
    """What EXIF has to do with a score: "" where it does not turn the scan, or there is no true mask."""
    if truth.exif == 1 or truth.mask is None:
        return ""
    told = f"truth: EXIF orientation {truth.exif} turns the scan, and {DRAWN_ON_TURNED}"
    scores = {"": dice(truth.mask, mask)}
    for whose, turned, other in (("truth", truth.mask, mask), ("prediction", mask, truth.mask)):
        again = turned_by_exif(turned, truth.exif)
        if again.shape == other.shape:
            scores[whose] = dice(again, other)
    best = max(scores, key=lambda whose: scores[whose])
    if best and scores[best] > scores[""] + _CLEARLY:
        told += (
            f"; with the {best} turned so too, Dice would be {scores[best]:.3f} and not {scores['']:.3f}: it seems to "
            "be drawn on the unturned pixels, so turn it or save the scan upright"
        )
    return told


def _drawn_inverted(truth: Truth, mask: BoolArray) -> str:
    """Whether the mask fits what the truth has as background; "" where it does not."""
    if truth.mask is None or dice(truth.mask, mask) > _POOR or dice(~truth.mask, mask) < 1 - _POOR:
        return ""
    return f"truth: inverted it would score Dice {dice(~truth.mask, mask):.3f}: is its background white?"


def _mask_score(truth: Truth, answered: Prediction | None, settings: EvaluationSettings) -> MaskScore | None:
    if truth.mask is None:
        return None
    directions = None if truth.geometry is None else truth.geometry.directions
    if answered is None:
        found = worst_mask_score(truth.mask, spacing=truth.spacing, tolerance=settings.tolerance, directions=directions)
    else:
        found = score_mask(
            truth.mask,
            answered.mask,
            spacing=truth.spacing,
            tolerance=settings.tolerance,
            empty=settings.empty,
            positions=truth.geometry.positions if truth.geometry is not None else None,
            directions=directions,
        )
    return _with_volume(found, truth.mask, truth.geometry, answered)


def _with_volume(
    found: MaskScore, truth: BoolArray, geometry: Geometry | None, answered: Prediction | None
) -> MaskScore:
    """A score with what is measured of volumes; that of an image as it is."""
    if geometry is None:
        return found
    # A missing answer is right in no slice, and its size is as far off as one can be.
    mask = ~truth if answered is None else answered.mask
    values, fractions = dict(found.values), dict(found.fractions)
    error = largest_error(truth, geometry) if answered is None else volume_error(truth, mask, geometry)
    unasked = answered is not None and answered.unknown and not answered.mask.any()
    if not math.isnan(error) and not (unasked and not truth.any()):
        values["volume_error_ml"] = error
    for key, (right, of) in slice_fractions(truth, mask).items():
        asked_of = 0 if unasked and key == "slice_specificity" else of
        counted = 0 if answered is None else min(right, asked_of)
        values[key] = counted / asked_of if asked_of else math.nan
        fractions[key] = (counted, asked_of)
    found = replace(found, values=values, fractions=fractions)
    sizes = geometry.volume(truth), 0.0 if answered is None else geometry.volume(mask)
    if sizes[0] is None or sizes[1] is None:
        return found
    return replace(found, truth_size=sizes[0], predicted_size=sizes[1])


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
        case = replace(case, unknown=answered.unknown)
    return case


def _size_unit(truth: Truth) -> str:
    volume = len(truth.shape) == 3
    if truth.spacing is None:
        return "voxels" if volume else "px"
    return "mm3" if volume else "mm2"

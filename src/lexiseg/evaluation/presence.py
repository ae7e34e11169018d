"""A system's presence and confidence over a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lexiseg.evaluation.cases import Case
from lexiseg.evaluation.metrics.classification import (
    Bools,
    CalibrationBin,
    Floats,
    auroc,
    calibration_bins,
    calibration_error,
    sensitivity,
    specificity,
)
from lexiseg.evaluation.statistics import NOWHERE, Bootstrap, Interval


@dataclass(frozen=True)
class Measured:
    """A number and its interval; NaN where it is undefined."""

    value: float = math.nan
    interval: Interval = NOWHERE


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold of presence would decide: the target is there where presence reaches it.

    Attributes:
        threshold: 0 to 1.
        found: scans with the target in which it would be found (true positives).
        with_target: scans with the target whose presence is known.
        rejected: scans without the target in which none would be found (true negatives).
        without_target: scans without the target whose presence is known.
        sensitivity: `found` of `with_target`; NaN without any such scan.
        specificity: `rejected` of `without_target`; likewise.
    """

    threshold: float
    found: int
    with_target: int
    rejected: int
    without_target: int
    sensitivity: float
    specificity: float


THRESHOLDS = tuple(k / 10 for k in range(1, 10))
"""Of the table of operating points."""


@dataclass(frozen=True, kw_only=True)
class PresenceReport:
    """Whether a system says rightly that the target is there.

    Attributes:
        with_target: scans that hold it.
        without_target: scans that do not.
        unknown: scans that were answered without a presence, also since the phrase was unknown; `auroc`, `error` and
            `thresholds` are without them.
        no_finding: scans whose phrase the system did not know.
        sensitivity: at the system's own threshold; a missing prediction is a wrong decision, and an unknown phrase
            found nothing.
        specificity: likewise, but without scans whose phrase was unknown: nobody looked there.
        auroc: of the presence; a missing prediction ranks worst.
        error: expected calibration error of the presence.
        bins: of the presence's calibration.
        confidence_error: expected calibration error of the confidence as an estimate of the case's Dice (box IoU
            where there is no true mask).
        confidence_bins: likewise.
        thresholds: what other thresholds would decide, a missing prediction wrongly at each; () where the system
            gives no presence.
    """

    with_target: int
    without_target: int
    unknown: int
    no_finding: int
    sensitivity: Measured
    specificity: Measured
    auroc: Measured
    error: float
    bins: tuple[CalibrationBin, ...]
    confidence_error: float
    confidence_bins: tuple[CalibrationBin, ...]
    thresholds: tuple[OperatingPoint, ...] = ()


def operating_points(claims: Floats, present: Bools) -> tuple[OperatingPoint, ...]:
    """Sensitivity and specificity at each of `THRESHOLDS`.

    Args:
        claims: float64 (N,), the presence of each scan.
        present: bool (N,), whether the target is there.
    """
    points = []
    for threshold in THRESHOLDS:
        found = claims >= threshold
        points.append(
            OperatingPoint(
                threshold=threshold,
                found=int((found & present).sum()),
                with_target=int(present.sum()),
                rejected=int((~found & ~present).sum()),
                without_target=int((~present).sum()),
                sensitivity=float(sensitivity(found, present)[0]),
                specificity=float(specificity(found, present)[0]),
            )
        )
    return tuple(points)


def report_presence(cases: Sequence[Case], bootstrap: Bootstrap) -> PresenceReport:
    """Detection and calibration over cases.

    Calibration is of what was claimed, so that missing predictions have no part in it. An unknown phrase is no claim:
    it never counts as a right answer.

    Args:
        cases: of one system.
        bootstrap: how intervals are made.
    """
    groups = [case.group for case in cases]
    present = np.array([case.truly_present for case in cases], bool)
    found = np.array([(not case.truly_present) if case.found is None else case.found for case in cases], bool)
    claims = np.array([_presence(case) for case in cases], np.float64)
    known = np.isfinite(claims)
    trusted = [case for case in cases if math.isfinite(case.confidence) and math.isfinite(case.quality)]
    confidence = np.array([case.confidence for case in trusted], np.float64)
    quality = np.array([case.quality for case in trusted], np.float64)
    judged = np.array([case.truly_present or not case.unknown for case in cases], np.float64)
    claimed = np.array([math.isfinite(case.presence) and not case.unknown for case in cases], bool)
    outcomes = present.astype(np.float64)
    ranked = np.where(known, claims, 0.0)

    def area(weights: Floats) -> Floats:
        return auroc(ranked, present, weights * known)

    ranks = Measured()
    if claimed.any():
        ranks = Measured(float(area(np.ones((1, len(cases))))[0]), bootstrap.interval(groups, area))
    return PresenceReport(
        with_target=int(present.sum()),
        without_target=int((~present).sum()),
        unknown=int((~known).sum()),
        no_finding=sum(case.unknown for case in cases),
        sensitivity=Measured(
            float(sensitivity(found, present)[0]),
            bootstrap.interval(groups, lambda weights: sensitivity(found, present, weights)),
        ),
        specificity=Measured(
            float(specificity(found, present, judged[None])[0]),
            bootstrap.interval(groups, lambda weights: specificity(found, present, weights * judged)),
        ),
        auroc=ranks,
        error=calibration_error(claims[claimed], outcomes[claimed]),
        bins=calibration_bins(claims[claimed], outcomes[claimed]),
        confidence_error=calibration_error(confidence, quality),
        confidence_bins=calibration_bins(confidence, quality),
        thresholds=operating_points(claims[known], present[known]) if claimed.any() else (),
    )


def _presence(case: Case) -> float:
    """What was claimed; the worst claim for a missing prediction, and none where the phrase was unknown."""
    if case.unknown:
        return math.nan
    if case.found is None:
        return 0.0 if case.truly_present else 1.0
    return case.presence

from __future__ import annotations

import math

import numpy as np
import pytest

from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.metrics.classification import (
    auroc,
    calibration_bins,
    calibration_error,
    sensitivity,
    specificity,
)
from lexiseg.evaluation.presence import THRESHOLDS, report_presence
from lexiseg.evaluation.statistics import Bootstrap

RNG = np.random.default_rng(8)
PRESENT = RNG.random(300) < 0.6
SCORES = np.round(np.clip(0.4 + 0.25 * PRESENT + RNG.normal(0, 0.2, 300), 0, 1), 2)


class TestDetection:
    def test_auroc_of_torchmetrics_with_ties(self) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        expected = functional.binary_auroc(torch.from_numpy(SCORES), torch.from_numpy(PRESENT.astype(int)))
        assert auroc(SCORES, PRESENT)[0] == pytest.approx(float(expected), abs=1e-6)

    def test_auroc_by_mann_whitney(self) -> None:
        from scipy.stats import mannwhitneyu

        above = mannwhitneyu(SCORES[PRESENT], SCORES[~PRESENT]).statistic
        pairs = PRESENT.sum() * (~PRESENT).sum()
        assert auroc(SCORES, PRESENT)[0] == pytest.approx(above / pairs, abs=1e-12)

    def test_weights_are_repeats(self) -> None:
        times = RNG.integers(0, 4, (3, 300))
        found = auroc(SCORES, PRESENT, times.astype(float))
        for row, value in zip(times, found, strict=True):
            repeated = auroc(np.repeat(SCORES, row), np.repeat(PRESENT, row))
            assert value == pytest.approx(repeated[0], abs=1e-12)

    def test_rates_by_hand(self) -> None:
        found, present = np.array([1, 1, 0, 1, 0], bool), np.array([1, 1, 1, 0, 0], bool)
        assert sensitivity(found, present)[0] == pytest.approx(2 / 3)
        assert specificity(found, present)[0] == 0.5

    def test_undefined_without_both_classes(self) -> None:
        always = np.ones(300, bool)
        assert math.isnan(auroc(SCORES, always)[0])
        assert math.isnan(specificity(always, always)[0])


class TestCalibration:
    def test_error_of_torchmetrics(self) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        # Torchmetrics' bins are closed below, ours above: no claim may lie on a bound.
        claims = np.clip(SCORES + 0.0037, 0.0037, 0.9963)
        expected = functional.binary_calibration_error(
            torch.from_numpy(claims), torch.from_numpy(PRESENT.astype(int)), n_bins=10
        )
        assert calibration_error(claims, PRESENT.astype(float)) == pytest.approx(float(expected), abs=1e-6)

    def test_the_calibrated_has_none(self) -> None:
        assert calibration_error(np.full(4, 0.25), np.array([0.0, 0, 0, 1])) == 0
        assert calibration_error(np.ones(4), np.zeros(4)) == 1

    def test_every_claim_is_in_one_bin(self) -> None:
        claims = np.linspace(0, 1, 101)
        assert sum(each.count for each in calibration_bins(claims, claims)) == 101

    def test_nothing_to_calibrate(self) -> None:
        assert math.isnan(calibration_error(np.zeros(0), np.zeros(0)))

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="expected 0 to 1"):
            calibration_error(np.array([1.5]), np.array([1.0]))
        with pytest.raises(ValueError, match="expected as many"):
            calibration_error(np.array([0.5]), np.zeros(2))


class TestReport:
    def test_a_missing_prediction_is_a_wrong_decision(self) -> None:
        said = {"found": True, "presence": 0.9, "confidence": 0.8}
        answered = [
            Case(id="a", group="a", truly_present=True, values={"dice": 0.7}, **said),
            Case(id="b", group="b", truly_present=False, found=False, presence=0.1),
        ]
        full = report_presence(answered, Bootstrap(resamples=50))
        assert (full.sensitivity.value, full.specificity.value, full.auroc.value) == (1, 1, 1)
        assert full.confidence_error == pytest.approx(0.1)
        missing = [
            Case(id="c", group="c", truly_present=True, status=Status.missing),
            Case(id="d", group="d", truly_present=False, status=Status.refused),
        ]
        found = report_presence([*answered, *missing], Bootstrap(resamples=50))
        assert (found.sensitivity.value, found.specificity.value) == (0.5, 0.5)
        assert found.auroc.value == 0.25
        assert found.error == full.error

    def test_a_system_without_presence(self) -> None:
        cases = [Case(id="a", group="a", truly_present=True, found=True)]
        found = report_presence(cases, Bootstrap(resamples=50))
        assert found.unknown == 1
        assert math.isnan(found.auroc.value)
        assert found.sensitivity.value == 1


class TestThresholds:
    def cases(self) -> list[Case]:
        claims = {"a": (True, 0.9), "b": (True, 0.3), "c": (False, 0.25), "d": (False, 0.1)}
        return [
            Case(id=name, group=name, truly_present=there, found=claim > 0.5, presence=claim)
            for name, (there, claim) in claims.items()
        ]

    def test_counts_by_hand(self) -> None:
        points = {each.threshold: each for each in report_presence(self.cases(), Bootstrap(resamples=20)).thresholds}
        assert tuple(points) == THRESHOLDS == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        # A presence that is the threshold itself reaches it, as in the pipelines.
        assert [(each.found, each.rejected) for each in points.values()] == [(2, 0), (2, 1), (2, 2)] + [(1, 2)] * 6
        assert (points[0.4].sensitivity, points[0.2].specificity) == (0.5, 0.5)
        assert {(each.with_target, each.without_target) for each in points.values()} == {(2, 2)}

    def test_are_those_of_torchmetrics(self) -> None:
        torch = pytest.importorskip("torch")
        functional = pytest.importorskip("torchmetrics.functional.classification")
        # Torchmetrics asks for more than the threshold, and in single precision.
        claims = np.clip(SCORES + 0.0037, 0, 1)
        cases = [
            Case(id=str(k), group=str(k), truly_present=bool(there), found=True, presence=float(claim))
            for k, (there, claim) in enumerate(zip(PRESENT, claims, strict=True))
        ]
        for each in report_presence(cases, Bootstrap(resamples=20)).thresholds:
            given = torch.from_numpy(claims), torch.from_numpy(PRESENT.astype(int)), each.threshold
            assert each.sensitivity == pytest.approx(float(functional.binary_recall(*given)), abs=1e-6)
            assert each.specificity == pytest.approx(float(functional.binary_specificity(*given)), abs=1e-6)

    def test_a_missing_prediction_is_wrong_at_every_threshold(self) -> None:
        missing = [
            Case(id="e", group="e", truly_present=True, status=Status.missing),
            Case(id="f", group="f", truly_present=False, status=Status.missing),
        ]
        for each in report_presence([*self.cases(), *missing], Bootstrap(resamples=20)).thresholds:
            assert (each.with_target, each.without_target) == (3, 3)
            assert each.found <= 2
            assert each.rejected <= 2

    def test_a_scan_without_a_presence_is_left_out(self) -> None:
        silent = Case(id="e", group="e", truly_present=True, found=True)
        assert {
            each.with_target for each in report_presence([*self.cases(), silent], Bootstrap(resamples=20)).thresholds
        } == {2}

    def test_there_are_none_where_no_presence_is_given(self) -> None:
        silent = [Case(id="e", group="e", truly_present=True, found=True)]
        assert report_presence(silent, Bootstrap(resamples=20)).thresholds == ()

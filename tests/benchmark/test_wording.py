from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from lexiseg.benchmark.wording import map_correlation, wording_sensitivity
from lexiseg.values.scans import Image, Scan

SCAN = Image(np.random.default_rng(0).random((6, 8), np.float32))


class Pipeline:
    """Answers from a table: phrase -> (map, presence)."""

    def __init__(self, answers: dict[str, tuple[Any, float]], slices: int = 1) -> None:
        self.answers, self.slices = answers, slices

    def __call__(self, scan: Scan, phrases: Sequence[str], *, keep_stages: bool) -> Any:
        findings = []
        for phrase in phrases:
            found, presence = self.answers[phrase]
            maps = () if found is None else (SimpleNamespace(map=found),) * self.slices
            findings.append(SimpleNamespace(phrase=phrase, present=presence > 0.5, presence=presence, saliency=maps))
        return SimpleNamespace(targets=findings)


class TestCorrelation:
    @given(st.integers(0, 2**32 - 1))
    @settings(deadline=None)
    def test_agrees_with_scipy(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        first = random.random((5, 7)).astype(np.float32)
        second = np.round(random.random((5, 7)), 1).astype(np.float32)  # with ties
        found = map_correlation(first, second)
        a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
        assert found.pearson == pytest.approx(pearsonr(a, b)[0], abs=1e-9)
        assert found.spearman == pytest.approx(spearmanr(a, b)[0], abs=1e-9)

    def test_ranks_ignore_a_monotone_change(self) -> None:
        found = map_correlation(SCAN.pixels, SCAN.pixels**5)
        assert found.spearman == pytest.approx(1)
        assert found.pearson < 0.99

    def test_the_negative(self) -> None:
        assert map_correlation(SCAN.pixels, 1 - SCAN.pixels) == pytest.approx((-1, -1))

    def test_tiny_values_do_not_vanish(self) -> None:
        tiny = SCAN.pixels.astype(np.float64) * 1e-200
        assert map_correlation(SCAN.pixels, tiny) == pytest.approx((1, 1))

    def test_a_flat_map(self) -> None:
        flat = np.zeros_like(SCAN.pixels)
        assert map_correlation(SCAN.pixels, flat) == (0, 0)
        assert map_correlation(flat, flat) == (1, 1)
        assert map_correlation(flat, flat + 1) == (0, 0)

    @pytest.mark.parametrize("other", [np.zeros((2, 2)), np.zeros((6, 8, 1))])
    def test_other_shapes(self, other: np.ndarray) -> None:
        with pytest.raises(ValueError, match="expected equal ones"):
            map_correlation(SCAN.pixels, other)


class TestReactions:
    def test_of_a_pipeline_that_reads(self) -> None:
        pipeline = Pipeline({"tumor": (SCAN.pixels, 0.9), "lungs": (1 - SCAN.pixels, 0.1)})
        right, wrong = wording_sensitivity(pipeline, SCAN, "tumor", {"wrong organ": "lungs"})
        assert (right.kind, right.present, right.presence_change, right.pearson) == ("right", True, 0, 1)
        assert (wrong.kind, wrong.phrase, wrong.present) == ("wrong organ", "lungs", False)
        assert wrong.presence_change == pytest.approx(-0.8)
        assert wrong.pearson == pytest.approx(-1)
        assert wrong.map_change == pytest.approx(np.abs(2 * SCAN.pixels - 1).mean(), abs=1e-6)

    def test_of_one_that_does_not(self) -> None:
        same = dict.fromkeys(("tumor", "normal", "zorblax"), (SCAN.pixels, 0.9))
        _, *others = wording_sensitivity(Pipeline(same), SCAN, "tumor", {"normal": "normal", "gibberish": "zorblax"})
        assert [(each.pearson, each.presence_change, each.present) for each in others] == [(1, 0, True)] * 2

    def test_of_a_volume_all_slices_are_compared(self) -> None:
        pipeline = Pipeline({"a": (SCAN.pixels, 0.9), "b": (SCAN.pixels**2, 0.9)}, slices=3)
        _, other = wording_sensitivity(pipeline, SCAN, "a", {"other": "b"})
        assert other.pearson == pytest.approx(map_correlation(SCAN.pixels, SCAN.pixels**2).pearson)

    def test_without_saliency_and_presence(self) -> None:
        pipeline = Pipeline({"a": (None, np.nan), "b": (None, np.nan)})
        _, other = wording_sensitivity(pipeline, SCAN, "a", {"other": "b"})
        assert np.isnan([other.pearson, other.spearman, other.map_change, other.presence_change]).all()

    def test_the_right_phrase_is_no_contrast(self) -> None:
        with pytest.raises(ValueError, match="'right'"):
            wording_sensitivity(Pipeline({}), SCAN, "a", {"right": "b"})

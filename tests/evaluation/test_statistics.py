from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lexiseg.evaluation.statistics import Bootstrap, compare_pairs, holm, rank_biserial, summarise

RNG = np.random.default_rng(11)
SCORES = RNG.beta(5, 2, 80)
ALONE = [f"p{k}" for k in range(80)]


class TestBootstrap:
    def test_like_scipys_where_every_group_is_one_case(self) -> None:
        expected = stats.bootstrap(
            (SCORES,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        found = summarise(SCORES.tolist(), ALONE, bootstrap=Bootstrap(resamples=20000)).interval
        width = expected.high - expected.low
        assert found.low == pytest.approx(expected.low, abs=0.03 * width)
        assert found.high == pytest.approx(expected.high, abs=0.03 * width)

    def test_copies_of_a_patients_image_do_not_narrow_it(self) -> None:
        once = summarise(SCORES.tolist(), ALONE).interval
        tenfold = summarise(np.repeat(SCORES, 10).tolist(), np.repeat(ALONE, 10).tolist()).interval
        naive = summarise(np.repeat(SCORES, 10).tolist(), [str(k) for k in range(800)]).interval
        assert tenfold == pytest.approx(once)
        assert naive.high - naive.low < 0.5 * (once.high - once.low)

    def test_neither_order_nor_a_second_run_changes_it(self) -> None:
        groups = [f"p{k // 3}" for k in range(80)]
        order = np.random.default_rng(2).permutation(80)
        first = summarise(SCORES.tolist(), groups).interval
        second = summarise(SCORES[order].tolist(), [groups[k] for k in order]).interval
        assert second == pytest.approx(first, abs=1e-12)
        assert summarise(SCORES.tolist(), groups).interval == first
        assert summarise(SCORES.tolist(), groups, bootstrap=Bootstrap(seed=1)).interval != first

    def test_chunks_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = summarise(SCORES.tolist(), ALONE).interval
        monkeypatch.setattr("lexiseg.evaluation.statistics._CELLS_AT_ONCE", 1000)
        assert summarise(SCORES.tolist(), ALONE).interval == pytest.approx(whole, abs=1e-12)

    def test_none_of_one_patient(self) -> None:
        assert all(map(math.isnan, summarise([0.1, 0.2], ["a", "a"]).interval))


class TestSummary:
    def test_by_numpy(self) -> None:
        found = summarise(SCORES.tolist(), ALONE)
        assert found.mean == pytest.approx(np.mean(SCORES))
        assert found.median == pytest.approx(np.median(SCORES))
        assert found.quartiles == pytest.approx(np.percentile(SCORES, [25, 75]))

    def test_undefined_is_left_out_and_counted(self) -> None:
        found = summarise([0.5, math.nan, 1.0], ["a", "b", "c"])
        assert (found.count, found.left_out, found.mean) == (2, 1, 0.75)
        nothing = summarise([math.nan], ["a"])
        assert nothing.count == 0
        assert math.isnan(nothing.mean)

    def test_pooled_and_mean_may_rank_differently(self) -> None:
        groups = ["small", "large"]
        first = summarise([1.0, 0.5], groups, fractions=[(2, 2), (500, 1000)])
        second = summarise([0.0, 0.8], groups, fractions=[(0, 2), (800, 1000)])
        assert first.mean > second.mean
        assert first.pooled < second.pooled
        assert first.pooled == 502 / 1002


class TestHolm:
    def test_by_hand(self) -> None:
        # 0.01 x 4, 0.02 x 3, then no smaller than those before, at most 1.
        assert holm([0.02, 0.01, 0.6, 0.03]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
        assert holm([0.5, 0.9]) == [1.0, 1.0]

    def test_undefined_does_not_count(self) -> None:
        found = holm([0.01, math.nan, 0.04])
        assert found[0] == 0.02
        assert math.isnan(found[1])

    def test_rejects_what_the_step_down_procedure_rejects(self) -> None:
        rng = np.random.default_rng(3)
        for _ in range(200):
            p = rng.beta(0.5, 3, 6)
            order = np.argsort(p)
            rejected = np.zeros(6, bool)
            for rank, place in enumerate(order):
                if p[place] > 0.05 / (6 - rank):
                    break
                rejected[place] = True
            assert [each <= 0.05 for each in holm(p.tolist())] == rejected.tolist()


class TestPairs:
    def test_of_scipy(self) -> None:
        other = np.clip(SCORES + RNG.normal(0.03, 0.1, 80), 0, 1)
        (found,) = compare_pairs("dice", {"a": other.tolist(), "b": SCORES.tolist()}, ALONE)
        expected = stats.wilcoxon(other - SCORES)
        assert found.p == pytest.approx(expected.pvalue)
        assert found.p_holm == found.p
        assert found.difference == pytest.approx(float((other - SCORES).mean()))
        # Of the two rank sums scipy gives the smaller.
        total = 80 * 81 / 2
        assert abs(found.effect) == pytest.approx(1 - 2 * expected.statistic / total)
        assert found.interval.low < found.difference < found.interval.high

    def test_a_patient_counts_once(self) -> None:
        groups = np.repeat([f"p{k}" for k in range(8)], 10).tolist()
        better = (SCORES + 0.01).tolist()
        (found,) = compare_pairs("dice", {"a": better, "b": SCORES.tolist()}, groups)
        assert (found.cases, found.groups) == (80, 8)
        assert found.p == pytest.approx(2 / 2**8)

    def test_all_pairs_are_corrected_together(self) -> None:
        systems = {name: (SCORES + RNG.normal(0, 0.1, 80)).tolist() for name in "abc"}
        found = compare_pairs("dice", systems, ALONE)
        assert [(each.first, each.second) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
        assert [each.p_holm for each in found] == pytest.approx(holm([each.p for each in found]))

    def test_equal_systems(self) -> None:
        (found,) = compare_pairs("dice", {"a": SCORES.tolist(), "b": SCORES.tolist()}, ALONE)
        assert (found.p, found.effect, found.difference) == (1.0, 0.0, 0.0)

    def test_undefined_leaves_the_pair_out(self) -> None:
        (found,) = compare_pairs("recall", {"a": [1.0, math.nan], "b": [0.5, 0.5]}, ["p", "q"])
        assert found.cases == 1
        assert math.isnan(found.p)

    def test_the_effects_ends(self) -> None:
        assert rank_biserial(np.array([1.0, 2.0])) == 1
        assert rank_biserial(np.array([-1.0, -2.0, 0.0])) == -1
        assert rank_biserial(np.array([3.0, -1.0, -2.0])) == 0

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lexiseg.errors import UsageError
from lexiseg.regions.threshold import best_by_expected_dice, fixed_threshold, kmeans, otsu, percentile_threshold

RULES = pytest.mark.parametrize("rule", [fixed_threshold, percentile_threshold, otsu, kmeans])


@pytest.fixture
def blob():
    y, x = np.mgrid[:40, :50]
    inside = (y - 15) ** 2 + (x - 30) ** 2 < 64
    noise = np.random.default_rng(0).normal(0, 0.03, inside.shape)
    return inside, np.clip(np.where(inside, 0.8, 0.15) + noise, 0, 1).astype(np.float32)


class TestEveryRule:
    @RULES
    @pytest.mark.parametrize("level", [0.0, 0.3, 0.9, 1.0])
    def test_flat_saliency_gives_an_empty_region(self, rule, level):
        mask = rule(np.full((5, 7), level, np.float32))
        assert mask.shape == (5, 7)
        assert mask.dtype == np.bool_
        assert not mask.any()

    @RULES
    def test_a_single_pixel_is_flat(self, rule):
        assert not rule(np.ones((1, 1), np.float32)).any()

    @RULES
    @given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 20)))
    @settings(max_examples=30, deadline=None)
    def test_the_region_is_the_most_salient_part(self, rule, levels):
        saliency = levels / np.float32(20)
        mask = rule(saliency)
        if mask.any() and not mask.all():
            assert saliency[mask].min() > saliency[~mask].max()


class TestEachRule:
    @pytest.mark.parametrize("rule", [fixed_threshold, otsu, kmeans])
    def test_two_clear_levels(self, rule, blob):
        inside, saliency = blob
        assert (rule(saliency) == inside).mean() > 0.999

    def test_fixed_is_strict(self):
        saliency = np.array([[0.2, 0.25, 0.3]], np.float32)
        np.testing.assert_array_equal(fixed_threshold(saliency, threshold=0.25), [[False, False, True]])

    @pytest.mark.parametrize("percentile", [50, 90, 99])
    def test_percentile_keeps_the_rest(self, percentile):
        saliency = np.random.default_rng(0).permutation(1000).reshape(20, 50).astype(np.float32) / 999
        assert percentile_threshold(saliency, percentile=percentile).sum() == (100 - percentile) * 10

    def test_kmeans_with_more_clusters_keeps_less(self):
        saliency = np.array([[0, 0.01, 0.02, 0.5, 0.52, 0.9, 1]], np.float32)
        assert kmeans(saliency, clusters=3).sum() == 2
        assert kmeans(saliency, clusters=2).sum() == 4

    def test_kmeans_with_fewer_levels_than_clusters(self):
        saliency = np.array([[0, 0, 1]], np.float32)
        np.testing.assert_array_equal(kmeans(saliency, clusters=5), saliency > 0)


class TestErrors:
    @pytest.mark.parametrize(
        ("rule", "setting"),
        [
            (fixed_threshold, {"threshold": 1.5}),
            (percentile_threshold, {"percentile": -1}),
            (kmeans, {"clusters": 1}),
        ],
    )
    def test_out_of_range(self, rule, setting):
        with pytest.raises(UsageError, match=next(iter(setting))):
            rule(np.eye(3, dtype=np.float32), **setting)


class TestBestByExpectedDice:
    @given(hnp.arrays(np.float32, st.integers(1, 10), elements=st.integers(0, 20)))
    @settings(max_examples=100, deadline=None)
    def test_no_other_mask_promises_more(self, levels):
        probability = levels / np.float32(20)
        every = np.array(list(product([False, True], repeat=probability.size)))
        total = float(probability.sum(dtype=np.float64))
        promised = 2 * (every * probability.astype(np.float64)).sum(1) / np.maximum(1e-9, every.sum(1) + total)
        found = best_by_expected_dice(probability)
        assert found.dtype == np.bool_ and found.shape == probability.shape
        assert promised[(every == found).all(1)] == pytest.approx(promised.max())

    def test_a_sure_map_is_cut_at_one_half(self, blob):
        inside, _ = blob
        np.testing.assert_array_equal(best_by_expected_dice(np.where(inside, 0.98, 0.01).astype(np.float32)), inside)

    def test_of_what_is_all_unsure_all_is_kept(self):
        faint = np.zeros((8, 9), np.float32)
        faint[2:5, 3:7] = 0.2
        np.testing.assert_array_equal(best_by_expected_dice(faint), faint > 0)

    @pytest.mark.parametrize("shape", [(1, 1), (5, 7)])
    def test_nothing_likely_is_an_empty_mask(self, shape):
        assert not best_by_expected_dice(np.zeros(shape, np.float32)).any()

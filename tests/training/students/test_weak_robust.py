from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lexiseg.training.students.robust import (
    balanced,
    choose_members,
    corrected,
    entropy,
    exchange,
    kept_share,
    smallest,
)


class TestBalanced:
    def test_keeps_ratios_and_has_mean_one(self) -> None:
        weights = balanced(np.array([0.2, 0.4, 0.6], np.float32))
        np.testing.assert_allclose(weights, [0.5, 1, 1.5], rtol=1e-6)


class TestSmallLoss:
    def test_begins_with_all_and_ends_without_the_forgotten(self) -> None:
        assert kept_share(0, 100, forget=0.25) == 1
        assert kept_share(10, 100, forget=0.25) == pytest.approx(0.875)
        assert kept_share(99, 100, forget=0.25) == 0.75

    def test_keeps_the_best_fitting(self) -> None:
        assert smallest(torch.tensor([0.3, 0.9, 0.1, 0.5]), 0.5).tolist() == [True, False, True, False]

    def test_never_leaves_out_everything(self) -> None:
        assert smallest(torch.tensor([0.3, 0.9]), 0.01).tolist() == [True, False]


class TestCoTeaching:
    def test_each_learns_what_the_other_finds_easy(self) -> None:
        first, second = exchange(torch.tensor([0.1, 0.9]), torch.tensor([0.8, 0.2]), 0.5)
        assert first.tolist() == [False, True]
        assert second.tolist() == [True, False]


class TestRefresh:
    def test_corrects_only_where_it_is_sure(self) -> None:
        labels = torch.tensor([[[0, 0, 1]]], dtype=torch.uint8)
        inside = torch.tensor([0.9, 0.6, 0.1])
        probabilities = torch.stack([1 - inside, inside])[None, :, None]
        assert corrected(labels, probabilities, trust=0.8).tolist() == [[[1, 0, 0]]]


class TestSnapshots:
    def test_members_are_near_the_best(self) -> None:
        assert choose_members([0.5, 0.79, 0.8, 0.7]) == [1, 2]
        assert choose_members([0.8, 0.81, 0.79, 0.82]) == [0, 1, 3]
        assert choose_members([math.nan] * 4) == [1, 2, 3]

    def test_entropy_is_that_of_scipy_over_its_largest(self) -> None:
        from scipy.stats import entropy as reference

        values = np.random.default_rng(0).dirichlet([1, 1, 1], 20).T.reshape(3, 4, 5)
        found = entropy(torch.from_numpy(values))
        np.testing.assert_allclose(found, reference(values, axis=0) / np.log(3), rtol=1e-6)

    def test_certain_pixels_have_none_and_even_ones_all(self) -> None:
        found = entropy(torch.tensor([[[1.0, 0.5]], [[0.0, 0.5]]]))
        assert found[0].tolist() == pytest.approx([0, 1], abs=1e-6)

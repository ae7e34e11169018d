"""Scores of channels that were not computed, told by those that were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.saliency.channel_model import adaptive_scores, kernels_of, mask_distances, predict
from lexiseg.saliency.gscorecam import GScoreCAM
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray


def blobs(count: int = 120, side: int = 12, seed: int = 0) -> Tensor:
    """Maps (count, side, side): one bump each, somewhere, of some width."""
    generator = torch.Generator().manual_seed(seed)
    x, y, width = (torch.rand(count, 1, 1, generator=generator) for _ in range(3))
    grid = (torch.arange(side) + 0.5) / side
    apart = (grid[None, None, :] - x) ** 2 + (grid[None, :, None] - y) ** 2
    return torch.exp(-apart / (0.02 + 0.1 * width))


def seen_at(maps: Tensor) -> Tensor:
    """(n, 1) scores: how much of a target in the upper left a mask lets through, steep as a CLIP's logits."""
    target = blobs(1, maps.shape[-1], seed=5)[0]
    return 12 * ((maps * target).sum((1, 2)) / target.sum())[:, None]


def map_of(scores: Tensor, maps: Tensor) -> Tensor:
    return torch.einsum("c,chw->hw", torch.softmax(scores.double(), 0), maps.double())


def wrong_side(found: Tensor, exact: Tensor) -> float:
    """How much of what lies above half the largest value is not the same in both, as a share."""
    above, expected = found > 0.5 * found.max(), exact > 0.5 * exact.max()
    return float((above != expected).sum() / expected.sum())


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


class TestPrediction:
    def test_known_values_are_kept_apart_from_noise_and_have_no_error(self) -> None:
        maps = blobs()
        scores = seen_at(maps)[:, 0].double()
        known = list(range(0, 120, 2))
        mean, errors = predict(kernels_of(mask_distances(maps, torch.ones(1, 3, 24, 24))), known, scores[known])
        assert errors[known].abs().max() == 0 and errors[:, known].abs().max() == 0
        others = list(range(1, 120, 2))
        left = (mean[others] - scores[others]).square().mean() / scores[others].var()
        assert left < 0.05

    def test_errors_are_a_covariance(self) -> None:
        maps = blobs(60)
        known = list(range(0, 60, 3))
        kernels = kernels_of(mask_distances(maps, torch.ones(1, 3, 24, 24)))
        _, errors = predict(kernels, known, seen_at(maps)[known, 0].double())
        torch.testing.assert_close(errors, errors.T)
        assert torch.linalg.eigvalsh(errors).min() >= -1e-9 * errors.diagonal().max()

    def test_masks_that_differ_where_the_view_is_black_are_the_same(self) -> None:
        one, other = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
        other[:4], one[0, 0], other[0, 0], one[0, 1], other[0, 1] = one[:4], 0, 0, 1, 1
        view = torch.ones(1, 3, 16, 16)
        assert mask_distances(torch.stack([one, other]), view)[:, 0, 1].min() > 0
        view[..., 8:, :] = 0
        assert mask_distances(torch.stack([one, other]), view)[:, 0, 1].max() == 0


class TestAdaptive:
    @pytest.mark.parametrize("tolerance", [0.1, 0.02])
    def test_the_map_is_cut_where_the_exact_one_is_with_fewer_scores(self, tolerance: float) -> None:
        maps, computed = blobs(), []

        def compute(channels: list[int]) -> Tensor:
            computed.extend(channels)
            return seen_at(maps[channels])

        found, count = adaptive_scores(
            mask_distances(maps, torch.ones(1, 3, 24, 24)),
            maps,
            [torch.arange(120)],
            compute,
            tolerance=tolerance,
            batch=8,
        )
        assert count == len(computed) == len(set(computed)) < 120
        exact = map_of(seen_at(maps)[:, 0], maps)
        # Twice the tolerance: it is an estimate.
        assert wrong_side(map_of(found[:, 0], maps), exact) <= 2 * tolerance
        assert correlation(map_of(found[:, 0], maps), exact) > 0.99

    def test_scores_that_masks_do_not_tell_are_all_computed(self) -> None:
        maps = blobs(60)
        noise = 12 * torch.rand(60, 1, generator=torch.Generator().manual_seed(1))
        found, count = adaptive_scores(
            mask_distances(maps, torch.ones(1, 3, 24, 24)),
            maps,
            [torch.arange(60)],
            lambda channels: noise[channels],
            tolerance=0.001,
            batch=8,
        )
        assert count == 60
        torch.testing.assert_close(found, noise.double())

    def test_each_phrase_is_seen_to(self) -> None:
        maps = blobs()
        both = torch.cat([seen_at(maps), seen_at(maps.flip(2))], 1)
        rows = [torch.arange(0, 100), torch.arange(20, 120)]
        found, count = adaptive_scores(
            mask_distances(maps, torch.ones(1, 3, 24, 24)), maps, rows, lambda c: both[c], tolerance=0.05, batch=8
        )
        assert count < 120
        for index, own in enumerate(rows):
            exact = map_of(both[own, index], maps[own])
            assert wrong_side(map_of(found[own, index], maps[own]), exact) <= 0.1

    def test_maps_that_are_all_alike(self) -> None:
        maps = torch.ones(40, 6, 6)
        found, count = adaptive_scores(
            mask_distances(maps, torch.ones(1, 3, 12, 12)),
            maps,
            [torch.arange(40)],
            lambda channels: torch.zeros(len(channels), 1),
            tolerance=0.05,
            batch=8,
        )
        assert count == 24
        assert torch.isfinite(found).all()


class TestMethod:
    def test_fewer_forwards_and_nearly_the_same_map(self, phrases: list[PhraseSet]) -> None:
        y, x = np.mgrid[0:45, 0:61] / 45
        scan = (0.2 + 0.6 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.1)).astype(np.float32)
        exact, adaptive = (FakeEncoder(channels=96, scale=5.0) for _ in range(2))
        expected = GScoreCAM(batch=8).explain(exact, scan, phrases[:1])
        found = GScoreCAM(batch=8, tolerance=0.1).explain(adaptive, scan, phrases[:1])
        assert sum(exact.image_calls) == 96
        assert 24 <= sum(adaptive.image_calls) < 96
        assert max(adaptive.image_calls) <= 8
        for a, b in zip(expected, found, strict=True):
            assert np.corrcoef(a.map.ravel(), b.map.ravel())[0, 1] > 1 - 0.2**2 / 2

    def test_of_few_channels_all_are_computed_and_the_map_is_exact(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        embedded = embed_phrases(encoder, phrases)
        expected = GScoreCAM().explain(encoder, scan, embedded)
        for a, b in zip(expected, GScoreCAM(tolerance=0.1).explain(encoder, scan, embedded), strict=True):
            np.testing.assert_allclose(a.map, b.map, atol=1e-6)

    def test_progress_ends_at_one(self, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        shares: list[float] = []
        GScoreCAM(tolerance=0.5).explain(FakeEncoder(channels=64), scan, phrases, progress=shares.append)
        assert shares == sorted(shares) and shares[-1] == 1

    @pytest.mark.parametrize("tolerance", [-0.1, 1.0, "0.1", float("nan"), True])
    def test_bad_tolerance(self, tolerance: object) -> None:
        with pytest.raises(UsageError, match="tolerance"):
            GScoreCAM(tolerance=tolerance)  # type: ignore[arg-type]

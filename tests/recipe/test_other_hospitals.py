"""Changes that another hospital's scans bring, and how they reach a view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipe.augment import AugmentSettings, augment
from recipe.data import Sample
from recipe.other_hospitals import fewer_pixels, lettering, other_colours


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def coloured(*, colour: bool = True) -> Sample:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 180, 120, 60
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    return Sample(image if colour else image[..., 0], (64, 64), {"polyp": mask}, frozenset(), "colon", "kvasirseg", "")


class TestColours:
    def test_a_channel_keeps_its_order_of_pixels(self) -> None:
        x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
        changed = other_colours(x, rng(), grey=0.0)
        assert changed.shape == x.shape and changed.min() >= 0 and changed.max() <= 1
        assert not torch.allclose(changed, x)

    def test_grey_has_no_colour(self) -> None:
        x = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
        changed = other_colours(x, rng(), grey=1.0)
        torch.testing.assert_close(changed, x.mean(0, keepdim=True).expand_as(x))


class TestResolution:
    @pytest.mark.parametrize("shape", [(64, 64), (3, 64, 64)])
    def test_fine_detail_goes_and_the_mean_stays(self, shape: tuple[int, ...]) -> None:
        board = (torch.arange(64)[:, None] + torch.arange(64)) % 2
        x = board.float().expand(shape).contiguous()
        changed = torch.stack([fewer_pixels(x, rng(seed), least=16) for seed in range(8)])
        assert changed.shape[1:] == x.shape
        assert changed.std() < 0.5 * x.std()
        assert abs(float(changed.mean() - x.mean())) < 0.02

    def test_a_scan_that_small_stays(self) -> None:
        x = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(fewer_pixels(x, rng(), least=128), x)


class TestLettering:
    @pytest.mark.parametrize("shape", [(96, 96), (3, 96, 96)])
    def test_few_pixels_change_and_stay_in_range(self, shape: tuple[int, ...]) -> None:
        x = torch.full(shape, 0.4)
        changed = torch.stack([lettering(x, rng(seed)) for seed in range(10)])
        touched = (changed != 0.4).float().mean((-2, -1))
        assert 0 < touched.mean() < 0.3
        assert changed.min() >= 0 and changed.max() <= 1


class TestViews:
    ALL = AugmentSettings(tint=1.0, coarse=1.0, letters=1.0, intensity=1.0, noise=1.0, blur=1.0)

    def test_a_colour_sample_is_seen_in_colour(self) -> None:
        view = augment(coloured(), 64, rng(), AugmentSettings(), 0.25, plain=True)
        assert view.pixels.shape == (3, 64, 64)
        torch.testing.assert_close(view.pixels[:, 32, 32], torch.tensor([180.0, 120, 60]) / 255, atol=1e-3, rtol=0)

    @pytest.mark.parametrize("colour", [True, False])
    def test_every_change_keeps_shape_and_range(self, colour: bool) -> None:
        for seed in range(12):
            view = augment(coloured(colour=colour), 64, rng(seed), self.ALL, 0.25)
            assert view.pixels.shape == ((3, 64, 64) if colour else (64, 64))
            assert torch.isfinite(view.pixels).all() and view.pixels.min() >= 0 and view.pixels.max() <= 1

    def test_a_chance_of_zero_draws_nothing(self) -> None:
        one, other = rng(5), rng(5)
        first = augment(coloured(colour=False), 64, one, AugmentSettings(), 0.25)
        second = augment(coloured(colour=False), 64, other, AugmentSettings(tint=0.0, grey=1.0), 0.25)
        assert first.pixels.equal(second.pixels)
        assert one.integers(1000) == other.integers(1000)

    def test_a_mirrored_left_kidney_is_a_right_one(self) -> None:
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 40:60] = 1
        sample = Sample(mask * 200, (64, 64), {"left kidney": mask}, frozenset(), "abdominal CT", "organs_ct", "")
        flipped = augment(sample, 64, rng(1), AugmentSettings(flip=1.0, view=0.0), 0.25)
        assert set(flipped.masks) == {"right kidney"}
        kept = augment(sample, 64, rng(1), AugmentSettings(flip=0.0, view=0.0), 0.25)
        assert set(kept.masks) == {"left kidney"}

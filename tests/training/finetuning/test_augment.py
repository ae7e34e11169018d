"""Changes of an image never make its caption untrue."""

from __future__ import annotations

import math

import pytest
import torch

from lexiseg.training.finetuning.batches import augment, freedom

FILL = torch.full((3, 1, 1), 0.25)


class TestFreedom:
    @pytest.mark.parametrize(
        "caption",
        [
            "A mass in the left breast.", "RIGHT kidney", "Two leftward arrows", "LUL collapse", "RLL nodule",
            "at 3 o'clock", "a right-sided effusion", "L breast", "situs inversus", "Frontal chest X-ray",
            "the heart is normal", "liver lesion", "ruptured appendix", "an obstructed RCA",
        ],
    )  # fmt: skip
    def test_what_has_sides_is_not_mirrored(self, caption: str) -> None:
        assert not freedom(caption).flip

    @pytest.mark.parametrize(
        "caption",
        ["Breast ultrasound with a tumor.", "A fetal head.", "a brightly enhancing lesion", "A leftover"],
    )
    def test_what_has_none_may_be(self, caption: str) -> None:
        assert freedom(caption).flip

    def test_places_sizes_and_turns(self) -> None:
        plain = freedom("a tumor")
        assert freedom("a tumor in the upper part").shift < plain.shift / 3
        assert freedom("a small tumor").zoom < plain.zoom / 3
        assert freedom("a 3 cm tumor").zoom < plain.zoom / 3
        assert freedom("a tumor, taller than wide").turn < plain.turn / 3


class TestAugment:
    def square(self) -> torch.Tensor:
        pixels = FILL.expand(3, 32, 32).clone()
        pixels[:, 4:28, 4:28] = 0.5
        pixels[:, 8:14, 18:24] = 0.9
        return pixels

    def centres(self, caption: str) -> list[float]:
        pixels = self.square().repeat(40, 1, 1, 1)
        found = augment(pixels, [caption] * 40, [[index] for index in range(40)], FILL)
        bright = found[:, 0] > 0.6 * found.amax(dim=(1, 2, 3))[:, None, None] + 0.2
        columns = torch.arange(32.0)
        return [float((mask * columns).sum() / mask.sum()) for mask in bright if mask.any()]

    def test_a_named_side_stays(self) -> None:
        assert min(self.centres("in the right half")) > 17

    def test_without_one_both_sides_come_up(self) -> None:
        centres = self.centres("a bright square")
        assert min(centres) < 14 < 18 < max(centres)

    def test_range_padding_and_order_of_levels(self) -> None:
        pixels = self.square()[None].repeat(10, 1, 1, 1)
        found = augment(pixels, ["a"] * 10, [[index] for index in range(10)], FILL)
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        assert torch.equal(found[:, :, 0, 0], torch.full((10, 3), 0.25))
        for before, after in zip(pixels, found, strict=True):
            assert float(after[:, 10:12].max()) > float(after[:, 18:24, 14:18].mean())
            assert before.shape == after.shape

    def test_an_image_is_changed_alike_in_any_batch(self) -> None:
        pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        seeds = [[0, 5], [0, 6], [0, 7]]
        together = augment(pixels, ["a", "b", "c"], seeds, FILL)
        alone = augment(pixels[1:2], ["b"], seeds[1:2], FILL)
        assert torch.allclose(together[1:2], alone, rtol=0, atol=1e-12)
        assert not torch.allclose(together, pixels, atol=0.05)

    def test_turns_are_within_what_is_allowed(self) -> None:
        assert freedom("a").turn == pytest.approx(math.radians(10))

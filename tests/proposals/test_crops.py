from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_saliency_encoder import FakeEncoder
from regions_of import boxes_of, filled, proposal
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.proposals.crops import embed_crops, make_crops
from lexiseg.proposals.proposal import Proposals
from lexiseg.proposals.settings import VISUAL_PROMPTS, CropSettings
from lexiseg.values.arrays import FloatArray

SHAPE = (20, 40)
FILL = (0.25, 0.5, 0.75)
BOX = (10, 4, 18, 12)  # 8 x 8: one scan pixel is one input pixel of a square of 8


def noise(*, colour: bool = False) -> FloatArray:
    shape = (*SHAPE, 3) if colour else SHAPE
    return np.random.default_rng(0).uniform(0.3, 0.7, shape).astype(np.float32)


def shown(pixels: FloatArray, proposals: Proposals, *, size: int, **settings: Any) -> list[Tensor]:
    crops = make_crops(pixels, proposals, CropSettings(**settings), size=size, fill=FILL)
    return [crop.pixels for crop in crops]


def as_fill(size: int) -> np.ndarray:
    return np.broadcast_to(np.array(FILL, np.float32)[:, None, None], (3, size, size))


class TestMasked:
    def test_what_is_not_the_region_is_the_mean_colour(self) -> None:
        mask = filled(SHAPE, BOX)
        mask[5:8, 12:15] = False
        pixels = noise()
        (crop,) = shown(pixels, Proposals(SHAPE, (proposal(mask),)), size=8)
        inside = mask[4:12, 10:18]
        np.testing.assert_allclose(crop.numpy()[:, inside], pixels[4:12, 10:18][inside][None].repeat(3, 0))
        np.testing.assert_allclose(crop.numpy()[:, ~inside], as_fill(8)[:, ~inside])

    def test_the_boxs_last_row_and_column_are_seen(self) -> None:
        pixels = noise()
        pixels[11, 10:18] = 1
        pixels[4:12, 17] = 1
        (crop,) = shown(pixels, boxes_of(SHAPE, BOX), size=8)
        assert (crop[:, -1] == 1).all() and (crop[:, :, -1] == 1).all()
        assert (crop[:, :-1, :-1] < 1).all()

    def test_its_aspect_is_kept_and_the_rest_is_the_mean_colour(self) -> None:
        (crop,) = shown(noise(), boxes_of(SHAPE, (0, 0, 16, 8)), size=16)
        np.testing.assert_allclose(crop[:, :4].numpy(), as_fill(16)[:, :4])
        np.testing.assert_allclose(crop[:, 12:].numpy(), as_fill(16)[:, 12:])
        assert (crop[0, 4:12] != FILL[0]).all()

    def test_a_margin_shows_more_mean_colour(self) -> None:
        (crop,) = shown(noise(), boxes_of(SHAPE, BOX), size=16, margin=0.5)
        assert (crop[0, 4:12, 4:12] != FILL[0]).all()
        np.testing.assert_allclose(crop[:, :4].numpy(), as_fill(16)[:, :4])


class TestExpanded:
    def test_the_surround_is_seen_as_it_is(self) -> None:
        pixels = noise()
        (crop,) = shown(pixels, boxes_of(SHAPE, BOX), size=12, visual_prompt="expanded")
        np.testing.assert_allclose(crop[0].numpy(), pixels[2:14, 8:20], rtol=1e-6)

    def test_never_past_the_scans_border(self) -> None:
        pixels = noise()
        (crop,) = shown(pixels, boxes_of(SHAPE, (0, 0, 8, 8)), size=12, visual_prompt="expanded", margin=0.5)
        np.testing.assert_allclose(crop[1].numpy(), pixels[:12, :12], rtol=1e-6)


@pytest.mark.parametrize("prompt", ["red-box", "contour"])
class TestLines:
    def test_red_just_around_the_region_which_is_not_hidden(self, prompt: str) -> None:
        mask = filled(SHAPE, BOX)
        mask[4, 10] = False  # a corner is missing: the contour follows it, the box does not
        pixels = noise()
        (crop,) = shown(pixels, Proposals(SHAPE, (proposal(mask),)), size=40, visual_prompt=prompt)
        seen = crop[:, 10:30].numpy()  # the whole scan, letterboxed
        red = (seen == np.array([1, 0, 0])[:, None, None]).all(0)
        expected = filled(SHAPE, (9, 3, 19, 13)) & ~filled(SHAPE, BOX)
        if prompt == "contour":
            expected[4, 10] = True
            expected[3, 9] = False
        np.testing.assert_array_equal(red, expected)
        np.testing.assert_allclose(seen[0][~red], pixels[~red], rtol=1e-6)

    def test_a_region_as_large_as_the_scan_leaves_no_room(self, prompt: str) -> None:
        pixels = noise(colour=True)
        (crop,) = shown(pixels, boxes_of(SHAPE, (0, 0, 40, 20)), size=40, visual_prompt=prompt)
        np.testing.assert_allclose(crop[:, 10:30].numpy(), np.moveaxis(pixels, 2, 0), rtol=1e-6)

    def test_the_line_is_as_thick_in_a_large_scan(self, prompt: str) -> None:
        shape = (1120, 1120)
        pixels = np.full(shape, 0.5, np.float32)
        (crop,) = make_crops(
            pixels, boxes_of(shape, (280, 280, 840, 840)), CropSettings(visual_prompt=prompt), size=224
        )
        column = crop.pixels[:, :, 112]
        reddish = (column[0] > 0.9) & (column[1] < 0.1)
        assert int(reddish.sum()) == 4  # two pixels above, two below


class TestGreyed:
    @pytest.mark.parametrize("dim", [0.0, 0.8, 1.0])
    def test_the_surround_fades_to_the_mean_colour(self, dim: float) -> None:
        pixels = noise()
        (crop,) = shown(pixels, boxes_of(SHAPE, BOX), size=40, visual_prompt="greyed", dim=dim)
        seen, inside = crop[:, 10:30].numpy(), filled(SHAPE, BOX)
        np.testing.assert_allclose(seen[0][inside], pixels[inside], rtol=1e-6)
        faded = (1 - dim) * pixels[~inside] + dim * FILL[2]
        np.testing.assert_allclose(seen[2][~inside], faded, rtol=1e-5)


class TestInStep:
    @pytest.mark.parametrize("prompt", VISUAL_PROMPTS)
    @pytest.mark.parametrize("colour", [False, True])
    def test_every_prompt_shows_every_region(self, prompt: str, colour: bool) -> None:
        # one pixel in a corner, one row, all of it
        regions = boxes_of(SHAPE, (39, 19, 40, 20), (0, 3, 40, 4), (0, 0, 40, 20))
        crops = list(make_crops(noise(colour=colour), regions, CropSettings(visual_prompt=prompt), size=16))
        assert [crop.index for crop in crops] == [0, 1, 2]
        for crop in crops:
            assert crop.pixels.shape == (3, 16, 16) and crop.pixels.dtype == torch.float32
            assert 0 <= float(crop.pixels.min()) <= float(crop.pixels.max()) <= 1

    def test_embeddings_do_not_depend_on_the_batch(self) -> None:
        encoder, pixels = FakeEncoder(), noise()
        regions = boxes_of(SHAPE, BOX, (0, 0, 9, 9), (20, 5, 39, 15))
        one = embed_crops(encoder, pixels, regions, CropSettings(batch=1))
        two = embed_crops(encoder, pixels, regions, CropSettings(batch=2))
        assert encoder.image_calls == [1, 1, 1, 2, 1]
        assert one.indices == two.indices == (0, 1, 2)
        torch.testing.assert_close(one.rows, two.rows)
        fill = tuple(float(v) for v in encoder.mean.flatten())
        crops = list(make_crops(pixels, regions, CropSettings(), size=encoder.input_size, fill=fill))
        torch.testing.assert_close(two.rows[2:], encoder.encode_image(crops[2].pixels[None]))

    def test_no_proposal_asks_the_encoder_nothing(self) -> None:
        encoder = FakeEncoder()
        found = embed_crops(encoder, noise(), Proposals(SHAPE), CropSettings())
        assert found.indices == () and len(found.rows) == 0 and encoder.image_calls == []

    def test_the_scan_is_left_as_it_was(self) -> None:
        pixels = noise()
        before = pixels.copy()
        pixels.flags.writeable = False
        for prompt in VISUAL_PROMPTS:
            list(make_crops(pixels, boxes_of(SHAPE, BOX), CropSettings(visual_prompt=prompt), size=16))
        np.testing.assert_array_equal(pixels, before)

    def test_another_scans_proposals_are_refused(self) -> None:
        with pytest.raises(ValueError, match="are of"):
            list(make_crops(noise().T, boxes_of(SHAPE, BOX), CropSettings(), size=16))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"visual_prompt": "circle"}, "no visual prompt 'circle'; expected one of masked, expanded"),
        ({"margin": -0.1}, "margin is -0.1"),
        ({"dim": 1.5}, "dim is 1.5"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CropSettings(**settings)

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regions_of import filled

from lexiseg.pipelines.packed import PackedSlices, pack, unpack
from lexiseg.pipelines.results import MaskEstimate, SliceResult
from lexiseg.values.masks import Prompts

SHAPE = (37, 53)


def answer(mask: np.ndarray, seed: int = 0) -> SliceResult:
    rng = np.random.default_rng(seed)
    return SliceResult(
        prompts=Prompts(
            boxes=rng.random((2, 4), np.float32),
            points=rng.random((3, 2), np.float32),
            labels=np.array([1, 0, 1], np.int64),
        ),
        estimate=MaskEstimate(mask, 0.1 + 0.2, rng.random(mask.shape, np.float32)),
        presence=1 / 3,
        weights=rng.random(int(mask.sum()), np.float32),
        agreement=0.7,
    )


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_what_later_steps_ask_for_comes_back_to_the_bit(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random(SHAPE) < share
    made = answer(mask, seed)
    back = unpack(pack(made, weights=True, probability=False))
    np.testing.assert_array_equal(back.estimate.mask, mask)
    for name in ("boxes", "points", "labels"):
        np.testing.assert_array_equal(getattr(back.prompts, name), getattr(made.prompts, name))
    np.testing.assert_array_equal(back.weights, made.weights)
    assert (back.presence, back.agreement, back.estimate.iou) == (made.presence, made.agreement, made.estimate.iou)
    assert back.estimate.probability is None and back.saliency is None and back.region is None


def test_a_presence_that_is_not_defined_stays_so() -> None:
    made = replace(answer(filled(SHAPE, (1, 2, 3, 4))), presence=math.nan)
    assert math.isnan(unpack(pack(made, weights=False, probability=False)).presence)


def test_a_probability_is_kept_around_the_mask_in_255_steps() -> None:
    mask = filled(SHAPE, (10, 8, 30, 24))
    made = answer(mask)
    back = unpack(pack(made, weights=False, probability=True)).estimate.probability
    assert back is not None and made.estimate.probability is not None
    around = filled(SHAPE, (5, 4, 35, 28))  # a quarter of the box's sides more on each
    assert np.abs(back - made.estimate.probability)[around].max() <= 0.5 / 255 + 1e-6
    assert not back[~around].any()


def test_without_weights_all_pixels_weigh_the_same() -> None:
    back = unpack(pack(answer(filled(SHAPE, (1, 2, 3, 4))), weights=False, probability=False))
    assert back.weights.tolist() == [1] * 4


def test_a_slice_takes_a_few_kilobytes() -> None:
    rows, columns = np.mgrid[:512, :512]
    disc = (rows - 256) ** 2 + (columns - 256) ** 2 < 200**2
    made = replace(answer(disc), estimate=MaskEstimate(disc, 0.9), prompts=Prompts())
    assert len(pack(made, weights=False, probability=False)) < 512 * 512 / 8


def test_slices_are_unpacked_when_they_are_asked_for() -> None:
    masks = [filled(SHAPE, (k, k, k + 5, k + 9)) for k in range(4)]
    slices = PackedSlices([pack(answer(mask), weights=False, probability=False) for mask in masks])
    assert len(slices) == 4
    np.testing.assert_array_equal(slices[-1].estimate.mask, masks[3])
    assert [each.estimate.mask.sum() for each in slices[1:3]] == [45, 45]
    for each, mask in zip(slices, masks, strict=True):
        np.testing.assert_array_equal(each.estimate.mask, mask)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-3],
        lambda data: b"y" + data[1:],
        lambda data: zlib.compress(zlib.decompress(data)[:-1]),
        lambda data: zlib.compress(zlib.decompress(data) + b"0"),
        lambda data: zlib.compress(b"\x02\0\0\0{}"),
        lambda data: zlib.compress(b"\xff\xff\xff\xff"),
    ],
)
def test_other_bytes_are_refused(damage: object) -> None:
    data = pack(answer(filled(SHAPE, (1, 2, 30, 30))), weights=True, probability=True)
    with pytest.raises(ValueError, match=r"no packed slice|buffer|Expecting|reshape"):
        unpack(damage(data))  # type: ignore[operator]

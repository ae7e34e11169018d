from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_saliency_encoder import ColourEncoder, FakeEncoder

from lexiseg.errors import UsageError
from lexiseg.saliency.dense import DenseSimilarity, interleave, shift_offsets, shifted_views
from lexiseg.saliency.presence import top_fraction_mean
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray
from lexiseg.values.calibration import Calibration

RED = PhraseSet("red", ("red",), ("blue",))
GREEN = PhraseSet("green", ("green",), ("blue",))
BLUE = PhraseSet("blue", ("blue",), ("red", "green"))


@pytest.fixture
def blobs() -> FloatArray:
    """Blue, with a red square at the top left and a green one at the bottom right; 100 x 150."""
    image = np.zeros((100, 150, 3), np.float32)
    image[..., 2] = 1
    image[10:40, 15:45] = (1, 0, 0)
    image[60:90, 105:135] = (0, 1, 0)
    return image


def peak(image: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(image >= 0.9 * image.max())
    return float(rows.mean()), float(columns.mean())


class TestFindsTheBlob:
    @pytest.mark.parametrize("framing", ["letterbox", "stretch", "tile", "pyramid"])
    @pytest.mark.parametrize("activation", ["sigmoid", "softmax", "minmax"])
    def test_right_one(self, blobs: FloatArray, framing: str, activation: str) -> None:
        method = DenseSimilarity(framing=framing, activation=activation, shifts=2)  # type: ignore[arg-type]
        red, green = method.explain(ColourEncoder(), blobs, [RED, GREEN])
        assert red.map.shape == (100, 150)
        assert red.map.min() >= 0 and red.map.max() <= 1
        assert peak(red.map) == pytest.approx((25, 30), abs=6)
        assert peak(green.map) == pytest.approx((75, 120), abs=6)


class TestActivation:
    def test_auto_is_sigmoid_with_a_bias(self, blobs: FloatArray) -> None:
        encoder = ColourEncoder()
        (auto,) = DenseSimilarity().explain(encoder, blobs, [RED])
        (named,) = DenseSimilarity(activation="sigmoid").explain(encoder, blobs, [RED])
        np.testing.assert_array_equal(auto.map, named.map)

    def test_sigmoid_is_the_towers_own_probability(self) -> None:
        """On a scan of one colour every position has the same cosine; nothing is stretched."""
        image = np.full((64, 64, 3), (0.6, 0.0, 0.8), np.float32)
        (found,) = DenseSimilarity().explain(ColourEncoder(scale=20, bias=-10), image, [RED])
        np.testing.assert_allclose(found.map, 1 / (1 + np.exp(-(20 * 0.6 - 10))), rtol=1e-4)
        assert found.evidence["dense"] == pytest.approx(0.8808, abs=1e-3)

    def test_absence_stays_absent(self) -> None:
        image = np.zeros((64, 64, 3), np.float32)
        image[..., 2] = 1
        image[10:20, 10:20, 0] = 0.1
        (found,) = DenseSimilarity().explain(ColourEncoder(), image, [RED])
        assert found.map.max() < 0.01
        (stretched,) = DenseSimilarity(activation="minmax").explain(ColourEncoder(), image, [RED])
        assert stretched.map.max() == 1

    def test_auto_is_softmax_with_negatives_alone(self) -> None:
        image = np.full((64, 64, 3), (0.6, 0.0, 0.8), np.float32)
        (found,) = DenseSimilarity().explain(ColourEncoder(scale=5, bias=0), image, [RED])
        expected = np.exp(5 * 0.6) / (np.exp(5 * 0.6) + np.exp(5 * 0.8))
        np.testing.assert_allclose(found.map, expected, rtol=1e-4)

    def test_auto_is_minmax_with_neither(self, blobs: FloatArray) -> None:
        (found,) = DenseSimilarity().explain(ColourEncoder(bias=0), blobs, [PhraseSet("red", ("red",))])
        assert (found.map.min(), found.map.max()) == (0, 1)
        assert "dense" not in found.evidence and "global" not in found.evidence

    def test_minmax_of_a_flat_map_is_zero(self) -> None:
        image = np.full((64, 64, 3), 0.5, np.float32)
        (found,) = DenseSimilarity(activation="minmax").explain(ColourEncoder(), image, [RED])
        assert found.map.max() == 0

    def test_softmax_without_negatives(self, blobs: FloatArray) -> None:
        with pytest.raises(UsageError, match="negative"):
            DenseSimilarity(activation="softmax").explain(ColourEncoder(), blobs, [PhraseSet("red", ("red",))])


class TestShifts:
    @pytest.mark.parametrize(("stride", "shifts", "expected"), [(32, 2, [-8, 8]), (16, 4, [-6, -2, 2, 6])])
    def test_offsets(self, stride: int, shifts: int, expected: list[int]) -> None:
        assert shift_offsets(stride, shifts) == expected

    def test_no_shift_is_no_change(self) -> None:
        view = torch.rand(1, 3, 8, 8)
        assert torch.equal(shifted_views(view, (4, 4), 1), view)

    @pytest.mark.parametrize("shifts", [2, 4])
    def test_interleaved_is_the_finer_grid(self, shifts: int) -> None:
        """Averages over whole cells, sampled every stride / n: as one pooling gives inside."""
        stride = 16
        view = torch.rand(1, 3, 96, 96)
        maps = F.avg_pool2d(shifted_views(view, (stride, stride), shifts), stride)
        fine = interleave(maps, shifts)
        assert fine.shape == (3, 6 * shifts, 6 * shifts)
        step = stride // shifts
        dense = F.avg_pool2d(view, stride, stride=step)[0]
        # The first whole cell of `dense` is centred on stride / 2; fine cell j on (j + 1/2) * step.
        first = (shifts - 1) / 2
        if first.is_integer():
            start = int(first)
            torch.testing.assert_close(fine[:, start : start + 3, start : start + 3], dense[:, :3, :3])
        else:
            half = F.avg_pool2d(view[:, :, step // 2 :, step // 2 :], stride, stride=step)[0]
            start = shifts // 2
            torch.testing.assert_close(fine[:, start : start + 3, start : start + 3], half[:, :3, :3])

    def test_rows_and_columns_are_not_swapped(self) -> None:
        view = torch.arange(32.0).view(1, 1, 32, 1).repeat(1, 3, 1, 32)
        fine = interleave(F.avg_pool2d(shifted_views(view, (8, 8), 2), 8), 2)
        assert (fine[0].diff(dim=0) > 0).all()
        assert (fine[0].diff(dim=1) == 0).all()

    def test_ramp_keeps_its_place(self) -> None:
        view = (torch.arange(64.0) + 0.5).expand(1, 3, 64, 64)
        fine = interleave(F.avg_pool2d(shifted_views(view, (16, 16), 2), 16), 2)[0, 0]
        torch.testing.assert_close(fine[1:-1], (torch.arange(8.0)[1:-1] + 0.5) * 8)

    def test_one_batch_and_the_grid_is_asked_once(self, blobs: FloatArray) -> None:
        encoder = ColourEncoder()
        method = DenseSimilarity(shifts=2)
        for _ in range(3):
            method.explain(encoder, blobs, [RED, BLUE])
        assert encoder.dense_calls == [1, 4, 4, 4]

    def test_finer_map_is_nearer_to_the_truth(self, blobs: FloatArray) -> None:
        truth = (blobs[..., 0] == 1).astype(float)
        errors = [
            np.abs(DenseSimilarity(shifts=n).explain(ColourEncoder(), blobs, [RED])[0].map - truth).mean()
            for n in (1, 4)
        ]
        assert errors[1] < 0.8 * errors[0]


def test_logits_are_the_cosines(encoder: FakeEncoder, phrases: list[PhraseSet]) -> None:
    square = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    raw = DenseSimilarity(activation="minmax").raw(encoder, square, phrases).maps
    field = encoder.encode_dense(torch.from_numpy(square).expand(1, 3, 32, 32))[0]
    expected = encoder.logit_scale * torch.einsum("ehw,e->hw", field, encoder.vector("heart"))
    torch.testing.assert_close(raw[1][2::4, 2::4], raw[1][2::4, 2::4])
    corners = raw[1][[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, expected[[0, 0, -1, -1], [0, -1, 0, -1]])


@pytest.mark.parametrize("settings", [{"activation": "relu"}, {"shifts": 0}, {"top_fraction": 0.0}, {"batch": 0}])
def test_bad_settings(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DenseSimilarity(**settings)  # type: ignore[arg-type]


def test_log_odds_go_through_the_phrases_line() -> None:
    image = np.full((64, 64, 3), (0.6, 0.0, 0.8), np.float32)
    encoder = ColourEncoder(scale=20, bias=-10)
    (phrase,) = embed_phrases(encoder, [RED])
    (found,) = DenseSimilarity().explain(encoder, image, [replace(phrase, calibration=Calibration(0.5, -1.0))])
    np.testing.assert_allclose(found.map, 1 / (1 + np.exp(-(0.5 * (20 * 0.6 - 10) - 1))), rtol=1e-4)


def test_a_small_target_is_looked_for_in_fewer_positions() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[16:32, 16:32] = (1.0, 0.0, 0.0)
    (phrase,) = embed_phrases(ColourEncoder(scale=20, bias=-10), [RED])
    phrases = [replace(phrase, calibration=Calibration(smallest=share)) for share in (1.0, 0.1)]
    method = DenseSimilarity(top_fraction=0.5)
    usual, small = method.explain(ColourEncoder(scale=20, bias=-10), image, phrases)
    assert usual.evidence["dense"] == top_fraction_mean(usual.map, 0.5)
    assert small.evidence["dense"] == top_fraction_mean(usual.map, 0.05) > 5 * usual.evidence["dense"]

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_saliency_encoder import FakeEncoder
from torch import Tensor

from lexiseg.errors import UnsupportedByModel, UsageError
from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.gscorecam import GScoreCAM, channel_masks, top_channels
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray


def reference(
    encoder: FakeEncoder, scan: FloatArray, phrase: PhraseSet, *, k: int, black: bool, contrast: bool
) -> Tensor:
    """The paper's equations for one phrase, one channel at a time, in double precision where it matters."""
    mean = tuple(encoder.mean.flatten().tolist())
    (frame,) = frame_scan(scan.shape, size=encoder.input_size, fill=mean)  # type: ignore[arg-type]
    view = frame.apply(scan)
    wordings = [encoder.vector(p) for p in phrase.wordings]
    text = sum(wordings[1:], wordings[0]) / len(wordings)
    text = text / text.norm()

    def score(embedding: Tensor) -> Tensor:
        plain = encoder.logit_scale * torch.dot(embedding, text)
        if not contrast:
            return plain
        negatives = [torch.exp(encoder.logit_scale * torch.dot(embedding, encoder.vector(n))) for n in phrase.negatives]
        return plain - torch.log(sum(negatives[1:], negatives[0]))

    top = encoder.top(encoder.bottom(view)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(encoder.pool(top)[0]), top)
    channels, height, width = top.shape[1:]
    importance = [sum(float(g) for g in gradient[0, c].flatten()) / (height * width) for c in range(channels)]
    chosen = sorted(range(channels), key=lambda c: -importance[c])[:k]

    scores = {}
    for c in chosen:
        up = F.interpolate(top[:, c : c + 1].detach(), size=encoder.input_size, mode="bilinear", align_corners=False)
        mask = (up - up.min()) / (up.max() - up.min())
        masked = view * mask if black else encoder.mean + (view - encoder.mean) * mask
        scores[c] = float(score(encoder.embed(masked)[0]))
    largest = max(scores.values())
    total = sum(math.exp(s - largest) for s in scores.values())
    saliency = torch.zeros(height, width)
    for c in chosen:
        saliency += math.exp(scores[c] - largest) / total * top[0, c].detach()
    saliency = frame.undo(saliency).clamp_min(0)
    return saliency / saliency.max()


class TestAgainstTheEquations:
    @pytest.mark.parametrize("k", [1, 5, 12, 300])
    @pytest.mark.parametrize("black", [True, False])
    @pytest.mark.parametrize("contrast", [False, True])
    def test_equal(
        self,
        encoder: FakeEncoder,
        scan: FloatArray,
        phrases: list[PhraseSet],
        k: int,
        black: bool,
        contrast: bool,
    ) -> None:
        method = GScoreCAM(k=k, batch=4, masked_out="black" if black else "mean", contrast=contrast)
        found = method.explain(encoder, scan, phrases)
        for saliency, phrase in zip(found, phrases, strict=True):
            expected = reference(encoder, scan, phrase, k=k, black=black, contrast=contrast)
            np.testing.assert_allclose(saliency.map, expected, atol=1e-5)
            assert saliency.map.std() > 0.01

    def test_the_settings_matter(self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        maps = [
            method.explain(encoder, scan, phrases[:1])[0].map
            for method in (
                GScoreCAM(k=5),
                GScoreCAM(k=12),
                GScoreCAM(k=5, masked_out="mean"),
                GScoreCAM(k=5, contrast=True),
                GScoreCAM(k=5, logit_scale=1.0),
                GScoreCAM(k=5, layer="conv1"),
            )
        ]
        for index, first in enumerate(maps):
            for second in maps[index + 1 :]:
                assert np.abs(first - second).max() > 1e-4


class TestWork:
    def test_masked_views_are_shared_and_batched(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        embedded = embed_phrases(encoder, phrases)
        encoder.text_calls.clear()
        GScoreCAM(k=5, batch=4).explain(encoder, scan, embedded)
        assert encoder.text_calls == []
        assert encoder.activation_calls == 1
        n = sum(encoder.image_calls)
        assert 5 < n <= 12
        assert len(encoder.image_calls) == math.ceil(n / 4)
        assert max(encoder.image_calls) <= 4

    def test_all_channels_once_for_any_number_of_phrases(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]
    ) -> None:
        GScoreCAM(batch=5).explain(encoder, scan, phrases)
        assert encoder.image_calls == [5, 5, 2]
        assert len(encoder.text_calls) == 1

    def test_progress_rises_to_one(self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        shares: list[float] = []
        GScoreCAM(batch=3, framing="tile").explain(encoder, scan, phrases, progress=shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1 and len(shares) > 4

    @pytest.mark.parametrize("batch", [1, 7, 64])
    def test_batch_does_not_change_the_map(
        self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet], batch: int
    ) -> None:
        one = GScoreCAM(batch=16).explain(encoder, scan, phrases)
        other = GScoreCAM(batch=batch).explain(encoder, scan, phrases)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a.map, b.map, atol=1e-5)


class TestDeadLayer:
    @pytest.mark.parametrize("dead", ["zero", "constant"])
    def test_error_names_the_layer_and_a_better_one(
        self, scan: FloatArray, phrases: list[PhraseSet], dead: str
    ) -> None:
        encoder = FakeEncoder(dead=dead)  # type: ignore[arg-type]
        with pytest.raises(UnsupportedByModel, match=r"'dead'.*'conv2'"):
            GScoreCAM(layer="dead").explain(encoder, scan, phrases)
        assert encoder.image_calls == []

    def test_unknown_layer(self, encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
        with pytest.raises(UnsupportedByModel, match="nowhere"):
            GScoreCAM(layer="nowhere").explain(encoder, scan, phrases)


class TestTopChannels:
    def test_largest_not_largest_magnitude(self) -> None:
        importance = torch.tensor([[0.1, -9.0, 3.0, 2.0]])
        assert top_channels(importance, 2).tolist() == [[2, 3]]

    def test_k_larger_than_channels(self) -> None:
        assert top_channels(torch.tensor([[1.0, 2.0]]), 300).tolist() == [[0, 1]]

    def test_ties_go_to_the_lower_index(self) -> None:
        assert top_channels(torch.zeros(1, 1000), 3).tolist() == [[0, 1, 2]]


class TestMasks:
    def test_range_and_flat_channel(self) -> None:
        maps = torch.stack([torch.randn(4, 4), torch.full((4, 4), 2.0)])
        masks = channel_masks(maps, 16)
        assert masks.shape == (2, 16, 16)
        assert (masks[0].min(), masks[0].max()) == (0, 1)
        assert (masks[1] == 0).all()


@pytest.mark.parametrize("settings", [{"k": 0}, {"batch": 0}, {"masked_out": "white"}])
def test_bad_settings(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        GScoreCAM(**settings)  # type: ignore[arg-type]


def test_contrast_without_negatives(encoder: FakeEncoder, scan: FloatArray) -> None:
    bare: Sequence[PhraseSet] = [PhraseSet("heart", ("heart",))]
    with pytest.raises(UsageError, match="negative phrases"):
        GScoreCAM(contrast=True).explain(encoder, scan, bare)

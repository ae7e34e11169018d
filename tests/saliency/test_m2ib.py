"""M2IB: in float64 against a few independent lines, and on encoders of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from towers import make_tower_folder

from lexiseg.errors import UsageError
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.m2ib import M2IB, information
from lexiseg.saliency.onward import block_of
from lexiseg.saliency.settings import M2IBSettings
from lexiseg.text.embedding import PhraseEmbedding


def forward(seen: Tensor) -> Tensor:
    """A small network after the bottleneck: positions mixed, then averaged, then of unit length."""
    weight = torch.linspace(-1, 1, 5 * 4, dtype=seen.dtype).reshape(5, 4)
    mixed = torch.tanh(seen + 0.3 * seen.roll(1, dims=1)) @ weight
    pooled = mixed.mean(dim=1) + 0.1 * mixed[:, 0]
    return pooled / pooled.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("noise", ["layer", "as-released"])
def test_the_papers_equations_in_float64(noise: str) -> None:
    """Adam, the closed divergence and the sampled match, written again without the optimiser or the method."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(1, 10, 5, generator=generator, dtype=torch.float64) * 2 + 0.5
    text = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    settings = M2IBSettings(beta=0.3, steps=7, samples=6, rate=0.8, noise=noise, seed=11)  # type: ignore[arg-type]
    ours = information(features, forward, text, settings=settings)

    mu = features.mean(1, keepdim=True) if noise == "layer" else torch.zeros(1, 1, 5, dtype=torch.float64)
    var = (
        features.var(1, keepdim=True, unbiased=False) if noise == "layer" else torch.ones(1, 1, 5, dtype=torch.float64)
    )
    drawn = torch.Generator().manual_seed(11)
    alpha = torch.full((1, 10, 5), 5.0, dtype=torch.float64)
    first = second = torch.zeros_like(alpha)

    def divergence(a: Tensor) -> Tensor:
        lam = 1 / (1 + torch.exp(-a))
        own = torch.distributions.Normal(lam * features + (1 - lam) * mu, (1 - lam) * var.sqrt())
        return torch.distributions.kl_divergence(own, torch.distributions.Normal(mu, var.sqrt()))

    for step in range(1, 8):
        epsilon = torch.randn(6, 10, 5, generator=drawn, dtype=torch.float64)
        asked = alpha.clone().requires_grad_()
        lam = 1 / (1 + torch.exp(-asked))
        total = 0.3 * divergence(asked).mean()
        for k in range(6):
            z = lam * features + (1 - lam) * (mu + var.sqrt() * epsilon[k])
            total = total - (forward(z)[0] * text).sum() / 6
        (g,) = torch.autograd.grad(total, asked)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        alpha = alpha - 0.8 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    expected = divergence(alpha)
    assert ours.dtype == torch.float64
    assert float((ours - expected).abs().max()) < 1e-9
    assert float(ours.std()) > 0.01


def test_what_the_phrase_needs_passes() -> None:
    """Two positions carry the match and the others nothing: with a dear bottleneck only they stay."""
    features = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(0))
    features[0, 4] = torch.tensor([6.0, 0, 0, 0])

    def read(seen: Tensor) -> Tensor:
        found = seen[:, 4] + 0.01 * seen.mean(dim=1)
        return found / found.norm(dim=1, keepdim=True)

    settings = M2IBSettings(beta=0.5, steps=30)
    found = information(features, read, torch.tensor([1.0, 0, 0, 0]), settings=settings)[0].sum(dim=1)
    assert int(found.argmax()) == 4
    assert float(found[4]) > 3 * float(found[[0, 1, 2, 3, 5, 6, 7, 8]].max())


KINDS = ("timm ViT, class token", "CLIP ViT", "CLIP ResNet")


@pytest.mark.parametrize("kind", KINDS)
class TestOnEncoders:
    @pytest.fixture
    def encoder(self, kind: str, tmp_path: Any) -> Any:
        return load_encoder(str(make_tower_folder(tmp_path, kind)), device="cpu", precision="float32")

    def test_a_map_of_each_phrase_the_same_every_time(self, encoder: Any, kind: str) -> None:
        scan = np.random.default_rng(0).random((50, 70), dtype=np.float32)
        texts = encoder.encode_text(["left lung", "breast tumor"])
        phrases = [PhraseEmbedding(name, text, texts[:0]) for name, text in zip("ab", texts, strict=True)]
        state = torch.random.get_rng_state()
        method = M2IB(steps=3, samples=2)
        one, other = method.explain(encoder, scan, phrases)
        assert one.map.shape == (50, 70)
        assert one.layer == block_of(encoder)
        assert not np.array_equal(one.map, other.map)
        again = method.explain(encoder, scan, phrases)[0]
        assert np.array_equal(one.map, again.map)
        assert torch.equal(state, torch.random.get_rng_state())


def test_the_layer_is_three_quarters_deep() -> None:
    class Twelve:
        def layers(self) -> tuple[str, ...]:
            return tuple(name for k in range(12) for name in (f"trunk.blocks.{k}.norm1", f"trunk.blocks.{k}"))

    assert block_of(Twelve()) == "trunk.blocks.8"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"beta": -1.0}, "beta is -1.0"), ({"rate": 0.0}, "rate 0.0"), ({"steps": 0}, "steps is 0"),
        ({"samples": 0}, "samples 0"), ({"noise": "white"}, "noise is 'white'; expected layer or as-released"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        M2IBSettings(**setting)

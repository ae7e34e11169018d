"""Two trained encoders in one: what it says is the mean of what they say."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn.functional import normalize

from lexiseg.bundled.join import imitation, join, main, projection_of
from lexiseg.bundled.recipe.encoder import dense_features, open_clip_config
from lexiseg.bundled.recipe.export import export_encoder
from lexiseg.bundled.recipe.words import draw_phrases
from lexiseg.models import load_encoder

TINY: dict[str, Any] = {
    "mean": 0.25, "std": 0.25, "embed_dim": 24, "image_size": 64,
    "init_logit_scale": 2.3, "init_logit_bias": -4.0,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
TOWERS = {"first": "pyramid_efficientnet_lite2", "second": "pyramid_tiny_vit_5m"}
JOINED = {"image_tower": "pyramid_lite2_tiny_vit_5m", "embed_dim": 48, "share": 0.3, "phrases": 200}
TOKENS = open_clip.SimpleTokenizer(context_length=12)(draw_phrases(200, random.Random(0))[0])


def build(**changes: Any) -> Any:
    model = open_clip.CLIP(**open_clip_config({**TINY, **changes})["model_cfg"])
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def halves() -> tuple[Any, Any]:
    """Two encoders; the second's text tower is the first's under a matrix, with another scale and bias."""
    torch.manual_seed(0)
    first, second = (build(image_tower=tower) for tower in TOWERS.values())
    words = {k: v for k, v in first.state_dict().items() if not k.startswith(("visual.", "logit_"))}
    words["text_projection"] = words["text_projection"] @ torch.linalg.qr(torch.randn(24, 24))[0]
    second.load_state_dict(words, strict=False)
    second.logit_scale += 0.5
    second.logit_bias += 1
    return first, second


def answers(model: Any, pixels: Tensor) -> Tensor:
    """Log-odds of 20 phrases at every position and of the whole image, (B, 20, positions + 1)."""
    dense, whole = dense_features(model, pixels)
    text = normalize(model.encode_text(TOKENS[:20]), dim=-1)
    found = torch.cat([dense.flatten(2), whole[..., None]], 2)
    return torch.einsum("bep,qe->bqp", found, text) * model.logit_scale.exp() + model.logit_bias


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_it_says_what_both_say_together(halves: tuple[Any, Any], share: float) -> None:
    joined = build(**JOINED)
    join(*halves, joined, TOKENS, share=share)
    pixels = torch.rand(2, 3, 64, 64)
    one, two, both = (answers(model, pixels) for model in (*halves, joined))
    assert (one - two).abs().mean() > 0.1
    assert torch.allclose(both, share * one + (1 - share) * two, atol=1e-3)


def test_another_text_tower_is_imitated(halves: tuple[Any, Any]) -> None:
    """A tower that the first's features cannot say exactly: nearer than any change of the matrix."""
    first, second = halves[0], build(image_tower=TOWERS["second"])
    before = first.text_projection.clone()
    found = projection_of(first, second, TOKENS)
    assert found.shape == (16, 24) and torch.equal(first.text_projection, before)
    own, other = (model.encode_text(TOKENS) for model in (first, second))
    wanted = normalize(other, dim=1) * own.norm(dim=1, keepdim=True)
    first.text_projection.data = torch.eye(16)
    features = first.encode_text(TOKENS)
    first.text_projection.data = before
    least = (features @ found - wanted).square().sum()
    assert least > 1e-3
    for seed in range(5):
        change = 0.01 * torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
        assert (features @ (found + change) - wanted).square().sum() > least


def test_how_well_it_is_imitated(halves: tuple[Any, Any]) -> None:
    """One where a matrix says all of it; less for a text tower of other weights."""
    others = open_clip.SimpleTokenizer(context_length=12)(["left lung", "a parking ticket", "glioma"])
    found = []
    for second in (halves[1], build(image_tower=TOWERS["second"])):
        joined = build(**JOINED)
        join(halves[0], second, joined, TOKENS, share=0.3)
        found.append(imitation(second, joined, others))
    assert found[0].shape == (3,)
    assert torch.allclose(found[0], torch.ones(3), atol=1e-4)
    assert found[1].mean() < 0.99


def test_the_wrong_order_is_refused(halves: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="the first encoder has another image tower"):
        join(*halves[::-1], build(**JOINED), TOKENS, share=0.5)


def test_the_command_writes_what_the_registry_loads(
    halves: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for (name, tower), model in zip(TOWERS.items(), halves, strict=True):
        export_encoder(model, {**TINY, "image_tower": tower}, tmp_path / name)
    recipe = {"seed": 0, "encoder": {**TINY, "image_tower": TOWERS["first"]}, "joined": JOINED}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    main(tmp_path / "first", tmp_path / "second", out=tmp_path / "both", config=tmp_path / "tiny.yaml")
    assert "cosine 1.0000 to the second encoder's" in capsys.readouterr().out
    one, two, both = (
        load_encoder(str(tmp_path / name), device="cpu", precision="float32") for name in (*TOWERS, "both")
    )
    pixels, phrases = torch.rand(1, 3, 64, 64), ["breast tumor", "lungs", "a teapot"]

    def said(encoder: Any) -> Tensor:
        dense = torch.einsum("behw,qe->bqhw", encoder.encode_dense(pixels), encoder.encode_text(phrases))
        return dense * encoder.logit_scale + encoder.logit_bias

    assert torch.allclose(said(both), 0.3 * said(one) + 0.7 * said(two), atol=0.05)  # fp16 on disk

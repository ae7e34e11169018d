"""Trained encoders in one: what it says is the mean of what they say."""

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

from lexiseg.models.loading import load_encoder
from recipe.encoder import dense_features, open_clip_config
from recipe.export import export_encoder
from recipe.join import imitation, join, main, projection_of
from recipe.words import draw_phrases

TINY: dict[str, Any] = {
    "mean": 0.25, "std": 0.25, "embed_dim": 24, "image_size": 64,
    "init_logit_scale": 2.3, "init_logit_bias": -4.0,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
TOWERS = {
    "first": "fpn_efficientnet_lite2",
    "second": "fpn_tiny_vit_5m",
    "third": "fpn_sam2_hiera_tiny",
}
SHARES = [0.3, 0.5, 0.2]
JOINED = {
    "image_tower": "fpn_lite2_tiny_vit_5m_hiera_tiny",
    "embed_dim": 72,
    "shares": SHARES,
    "phrases": 200,
}
TOKENS = open_clip.SimpleTokenizer(context_length=12)(draw_phrases(200, random.Random(0))[0])


def build(**changes: Any) -> Any:
    model = open_clip.CLIP(**open_clip_config({**TINY, **changes})["model_cfg"])
    return model.eval().requires_grad_(False).double()


@pytest.fixture(scope="module")
def parts() -> tuple[Any, ...]:
    """Encoders; the text towers of all are the first's under a matrix, with another scale and bias."""
    torch.manual_seed(0)
    first, *others = (build(image_tower=tower) for tower in TOWERS.values())
    for place, other in enumerate(others, 1):
        words = {k: v for k, v in first.state_dict().items() if not k.startswith(("visual.", "logit_"))}
        words["text_projection"] = words["text_projection"] @ torch.linalg.qr(torch.randn(24, 24).double())[0]
        other.load_state_dict(words, strict=False)
        other.logit_scale += 0.5 * place
        other.logit_bias += place
    return first, *others


def answers(model: Any, pixels: Tensor) -> Tensor:
    """Log-odds of 20 phrases at every position and of the whole image, (B, 20, positions + 1)."""
    dense, whole = (each.double() for each in dense_features(model, pixels))
    text = normalize(model.encode_text(TOKENS[:20]), dim=-1)
    found = torch.cat([dense.flatten(2), whole[..., None]], 2)
    return torch.einsum("bep,qe->bqp", found, text) * model.logit_scale.exp() + model.logit_bias


@pytest.mark.parametrize("shares", [[0.0, 1.0, 0.0], SHARES, [1.0, 0.0, 0.0]])
def test_it_says_what_all_say_together(parts: tuple[Any, ...], shares: list[float]) -> None:
    joined = build(**JOINED)
    join(parts, joined, TOKENS, shares=shares)
    pixels = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    *each, together = (answers(model, pixels) for model in (*parts, joined))
    assert (each[0] - each[1]).abs().mean() > 0.1 and (each[1] - each[2]).abs().mean() > 0.1
    expected = sum(share * one for share, one in zip(shares, each, strict=True))
    assert torch.allclose(together, expected, rtol=0, atol=1e-4)  # embeddings come in float32


def test_another_text_tower_is_imitated(parts: tuple[Any, ...]) -> None:
    """A tower that the first's features cannot say exactly: nearer than any change of the matrix."""
    first, second = parts[0], build(image_tower=TOWERS["second"])
    before = first.text_projection.clone()
    found = projection_of(first, second, TOKENS)
    assert found.shape == (16, 24) and torch.equal(first.text_projection, before)
    own, other = (model.encode_text(TOKENS) for model in (first, second))
    wanted = normalize(other, dim=1) * own.norm(dim=1, keepdim=True)
    first.text_projection.data = torch.eye(16).double()
    features = first.encode_text(TOKENS)
    first.text_projection.data = before
    least = (features @ found - wanted).square().sum()
    assert least > 1e-3
    for seed in range(5):
        change = 0.01 * torch.randn(16, 24, generator=torch.Generator().manual_seed(seed)).double()
        assert (features @ (found + change) - wanted).square().sum() > least


def test_how_well_it_is_imitated(parts: tuple[Any, ...]) -> None:
    """One where a matrix says all of it; less for a text tower of other weights."""
    others = open_clip.SimpleTokenizer(context_length=12)(["left lung", "a parking ticket", "glioma"])
    stranger = build(image_tower=TOWERS["third"])
    joined = build(**JOINED)
    join([*parts[:2], stranger], joined, TOKENS, shares=SHARES)
    found = [imitation(model, joined, place, others) for place, model in enumerate((*parts[:2], stranger))]
    assert found[0].shape == (3,)
    assert torch.allclose(torch.cat(found[:2]), torch.ones(6).double(), atol=1e-6)
    assert found[2].mean() < 0.99


def test_the_wrong_order_is_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="encoder 1 has another image tower"):
        join(parts[::-1], build(**JOINED), TOKENS, shares=SHARES)


def test_other_numbers_of_encoders_are_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="got 2 encoders and 3 shares, expected 3"):
        join(parts[:2], build(**JOINED), TOKENS, shares=SHARES)


def test_the_command_writes_what_the_registry_loads(
    parts: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / name for name in TOWERS]
    for folder, tower, model in zip(folders, TOWERS.values(), parts, strict=True):
        export_encoder(model, {**TINY, "image_tower": tower}, folder)
    recipe = {"seed": 0, "encoder": {**TINY, "image_tower": TOWERS["first"]}, "joined": JOINED}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    main(folders, out=tmp_path / "all", config=tmp_path / "tiny.yaml")
    printed = capsys.readouterr().out
    assert "text of encoder 2: cosine 1.0000" in printed and "text of encoder 3: cosine 1.0000" in printed
    *each, together = (
        load_encoder(str(folder), device="cpu", precision="float32") for folder in (*folders, tmp_path / "all")
    )
    pixels, phrases = torch.rand(1, 3, 64, 64), ["breast tumor", "lungs", "a teapot"]

    def said(encoder: Any) -> Tensor:
        dense = torch.einsum("behw,qe->bqhw", encoder.encode_dense(pixels), encoder.encode_text(phrases))
        return dense * encoder.logit_scale + encoder.logit_bias

    expected = sum(share * said(one) for share, one in zip(SHARES, each, strict=True))
    assert torch.allclose(said(together), expected, atol=0.05)  # fp16 and 8 bits on disk

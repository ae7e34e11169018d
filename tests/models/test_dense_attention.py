"""Dense features by another attention: against a few lines from the papers' equations, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import clip_files
import numpy as np
import pytest
import torch
from torch import Tensor
from towers import TOWERS

from lexiseg.errors import UnsupportedByModel, UsageError
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.settings import explain
from lexiseg.text.embedding import PhraseEmbedding

ATTENTIONS = ("sclip", "clearclip", "naclip", "gem")
VITS = ("timm ViT, class token", "timm ViT, mean", "timm ViT, attention pool", "CLIP ViT", "CLIP ViT, mean")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = clip_files.make_folder(tmp_path_factory.mktemp("clip"), "CLIP")
    return load_encoder(str(folder), device="cpu", precision="float32")


def picture(encoder: Any, count: int = 2) -> Tensor:
    side = encoder.input_size
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def by_hand(kind: str, attention: str, pixels: Tensor) -> np.ndarray:
    """transformers' CLIP of the tests in float64, head by head, from the equations."""
    model = clip_files.make_model(kind).double()
    vision = model.vision_model
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    with torch.no_grad():
        hidden = vision.pre_layrnorm(vision.embeddings(((pixels - mean) / std).double()))
        inputs = []
        for layer in vision.encoder.layers:
            inputs.append(hidden)
            hidden = layer(hidden, attention_mask=None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        layers = list(vision.encoder.layers)
        first = len(layers) - 1 if attention != "gem" else len(layers) - round(7 / 12 * len(layers))
        path = inputs[first]
        for layer, x in zip(layers[first:], inputs[first:], strict=True):
            block, own = layer.self_attn, layer.layer_norm1(x)
            parts = [getattr(block, f"{name}_proj")(own) for name in "qkv"]
            collected = torch.zeros_like(x)
            for b in range(len(x)):
                for h in range(2):
                    q, k, v = (part[b, :, 16 * h : 16 * h + 16] for part in parts)
                    collected[b, :, 16 * h : 16 * h + 16] = mixed(attention, q, k, v, x[b])
            out = block.out_proj(collected)
            if attention == "sclip":
                path = x + out
                path = path + layer.mlp(layer.layer_norm2(path))
            elif attention == "gem":
                path = path + out
            else:
                path = out
        dense = model.visual_projection(vision.post_layernorm(path))[:, 1:]
        dense = dense / dense.norm(dim=-1, keepdim=True)
    return dense.reshape(len(pixels), 4, 4, -1).permute(0, 3, 1, 2).numpy()


def mixed(attention: str, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
    scale = 1 / 4  # 16 channels a head
    if attention == "sclip":
        return ((scale * q @ q.T).softmax(-1) + (scale * k @ k.T).softmax(-1)) @ v
    if attention == "clearclip":
        return (scale * q @ q.T).softmax(-1) @ v
    if attention == "naclip":
        scores = scale * k @ k.T
        for i in range(16):
            for j in range(16):
                distance = (i // 4 - j // 4) ** 2 + (i % 4 - j % 4) ** 2
                scores[1 + i, 1 + j] += np.exp(-distance / 50)
        return scores.softmax(-1) @ v
    sharp = scale * x.norm(dim=-1).mean()
    total = torch.zeros_like(v)
    for p in (q, k, v):
        unit = p / p.norm(dim=-1, keepdim=True)
        smoothed = (sharp * unit @ unit.T).softmax(-1) @ unit
        again = smoothed / smoothed.norm(dim=-1, keepdim=True)
        total = total + (sharp * again @ again.T).softmax(-1) @ v
    return total / 3


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_papers_equations(clip: Any, attention: str) -> None:
    pixels = picture(clip)
    ours = clip.encode_dense(pixels, attention)
    assert np.allclose(ours.numpy(), by_hand("CLIP", attention, pixels), atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("kind", VITS)
class TestEveryViT:
    def test_one_forward_gives_both(self, encoders: dict[str, OpenClipEncoder], kind: str, attention: str) -> None:
        encoder = encoders[kind]
        pixels = picture(encoder)
        counted: list[int] = []
        first = next(iter(encoder.model.visual.modules())).register_forward_hook(lambda *_: counted.append(1))
        try:
            dense, whole = encoder.encode_dense_and_image(pixels, attention)
        finally:
            first.remove()
        assert len(counted) <= 1
        assert torch.allclose(whole, encoder.encode_image(pixels), atol=1e-5)
        assert dense.shape[:2] == whole.shape
        assert torch.allclose(dense.norm(dim=1), torch.ones(()), atol=1e-5)
        assert not torch.allclose(dense, encoder.encode_dense(pixels), atol=1e-3)
        assert not any(module._forward_hooks for module in encoder.model.modules())


@pytest.mark.parametrize("kind", sorted(TOWERS.keys() - set(VITS)))
def test_what_is_no_vit_is_refused(encoders: dict[str, OpenClipEncoder], kind: str) -> None:
    with pytest.raises(UnsupportedByModel, match="'sclip' needs a ViT"):
        encoders[kind].encode_dense(picture(encoders[kind]), "sclip")


CLASS_TOKEN = ("timm ViT, class token", "CLIP ViT")


@pytest.mark.parametrize("kind", CLASS_TOKEN)
class TestRegions:
    def test_a_region_of_everything_is_the_image(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        pixels = picture(encoder, 1)
        found = encoder.encode_regions(pixels, torch.ones(2, *pixels.shape[2:]))
        torch.testing.assert_close(found, encoder.encode_image(pixels).expand(2, -1), atol=1e-5, rtol=0)
        assert not any(module._forward_hooks for module in encoder.model.modules())

    def test_regions_do_not_see_each_other(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        pixels = picture(encoder, 1)
        masks = halves(pixels.shape[-1])
        both = encoder.encode_regions(pixels, masks)
        for k in range(2):
            torch.testing.assert_close(both[k], encoder.encode_regions(pixels, masks[k : k + 1])[0], atol=1e-5, rtol=0)
        assert not torch.allclose(both[0], both[1], atol=1e-3)


def halves(side: int) -> Tensor:
    """The upper half, and the left half."""
    masks = torch.zeros(2, side, side)
    masks[0, : side // 2], masks[1, :, : side // 2] = 1, 1
    return masks


def test_masked_attention_is_timms_own_with_a_mask(encoders: dict[str, OpenClipEncoder]) -> None:
    encoder = encoders["timm ViT, class token"]
    pixels, tower = picture(encoder, 1), encoder.model.visual
    masks = halves(pixels.shape[-1])
    trunk: Any = tower.trunk  # type: ignore[union-attr]
    side = trunk.patch_embed.grid_size[0]
    inside = torch.nn.functional.interpolate(masks[:, None], (side, side), mode="area").flatten(1) > 0
    with torch.no_grad():
        normalised = (pixels - encoder._mean) / encoder._std
        tokens = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(normalised)))
        length = tokens.shape[1]
        allowed = torch.zeros(length + 2, length + 2, dtype=torch.bool)
        allowed[:length, :length] = True
        for k in range(2):
            allowed[length + k, 1:length], allowed[length + k, length + k] = inside[k], True
        tokens = torch.cat([tokens, tokens[:, :1].expand(-1, 2, -1)], dim=1)
        for block in trunk.blocks:
            tokens = block(tokens, attn_mask=allowed)
        rows = tower.head(trunk.head(trunk.fc_norm(trunk.norm(tokens[0, length:]))))  # type: ignore[union-attr]
    expected = torch.nn.functional.normalize(rows, dim=-1)
    torch.testing.assert_close(encoder.encode_regions(pixels, masks), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", sorted(TOWERS.keys() - set(CLASS_TOKEN)))
def test_without_a_class_token_regions_are_refused(encoders: dict[str, OpenClipEncoder], kind: str) -> None:
    pixels = picture(encoders[kind], 1)
    with pytest.raises(UnsupportedByModel, match=r"no masked attention in .*use crops.seen=pooled"):
        encoders[kind].encode_regions(pixels, torch.ones(1, *pixels.shape[2:]))


def test_a_saliency_by_each(clip: Any, tmp_path: Path) -> None:
    scan = np.random.default_rng(0).random((50, 70), dtype=np.float32)
    texts = clip.encode_text(["left lung", "breast tumor", "brain"])
    phrase = PhraseEmbedding("left lung", texts[0], texts[1:])
    maps = {
        attention: explain(clip, scan, [phrase], method="dense", attention=attention)[0]
        for attention in ("value", *ATTENTIONS)
    }
    assert all(found.map.shape == (50, 70) and found.map.std() > 0 for found in maps.values())
    assert len({found.map.tobytes() for found in maps.values()}) == 5
    assert len({round(found.evidence["logit"], 4) for found in maps.values()}) == 1
    with pytest.raises(UsageError, match="attention is 'mine'; expected value, sclip"):
        explain(clip, scan, [phrase], method="dense", attention="mine")

"""The methods with real open_clip towers (tiny, random weights): timm's ViT, CLIP's own, a ConvNeXt."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from selftest import selftest

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.saliency.settings import METHODS, explain, method_class
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray

SIZE = 64
VISION: dict[str, dict[str, Any]] = {
    "timm ViT": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": SIZE},
    "CLIP ViT": {"layers": 3, "width": 48, "head_width": 16, "patch_size": 16, "image_size": SIZE},
    "ConvNeXt": {
        "timm_model_name": "test_convnext",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": SIZE,
    },
}
LAST_BLOCK = {"timm ViT": "trunk.blocks.{}", "CLIP ViT": "transformer.resblocks.{}"}


@lru_cache
def build(tower: str) -> OpenClipEncoder:
    torch.manual_seed(0)
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=VISION[tower], text_cfg=text)
    model.visual.preprocess_cfg = {"size": SIZE, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)}
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return OpenClipEncoder(model, tokenizer, name=tower, device=torch.device("cpu"), precision="float32")


@pytest.fixture
def chest() -> FloatArray:
    rows, columns = np.mgrid[0:50, 0:90] / 50
    image = np.exp(-((rows - 0.4) ** 2 + (columns - 1.2) ** 2) / 0.05)
    return np.asarray(0.8 * image + 0.2 * np.random.default_rng(0).random((50, 90)), dtype=np.float32)


PHRASES = [
    PhraseSet("lungs", ("lungs", "both lungs"), ("background",)),
    PhraseSet("heart", ("heart",), ("ribs",)),
]


@pytest.mark.parametrize("tower", sorted(VISION))
@pytest.mark.parametrize("method", sorted(METHODS))
class TestEveryTower:
    def test_map(self, tower: str, method: str, chest: FloatArray) -> None:
        found = explain(build(tower), chest, PHRASES, method=method)
        assert [saliency.map.shape for saliency in found] == [chest.shape] * 2
        assert all(np.isfinite(saliency.map).all() for saliency in found)
        assert all(np.isfinite(saliency.score) for saliency in found)

    def test_selftest(self, tower: str, method: str) -> None:
        selftest(build(tower), method_class(method)())

    def test_no_hook_is_left(self, tower: str, method: str, chest: FloatArray) -> None:
        encoder = build(tower)
        explain(encoder, chest, PHRASES, method=method)
        visual: Any = encoder.model.visual
        assert not [name for name, module in visual.named_modules() if module._forward_hooks]
        assert not [p for p in visual.parameters() if p.grad is not None]


@pytest.mark.parametrize("tower", sorted(LAST_BLOCK))
@pytest.mark.parametrize("method", ["gscorecam", "gradcam"])
def test_last_block_of_a_class_token_tower_is_refused(tower: str, method: str, chest: FloatArray) -> None:
    """The layer that MedCLIP-SAM's code reads: its patch tokens never reach the embedding."""
    encoder = build(tower)
    depth = max(int(name.split(".")[2]) for name in encoder.layers())
    layer = LAST_BLOCK[tower].format(depth)
    with pytest.raises(UnsupportedByModel, match="do not influence") as caught:
        explain(encoder, chest, PHRASES, method=method, layer=layer)
    assert repr(layer) in str(caught.value)
    assert repr(encoder.default_layer()) in str(caught.value)


def test_layer_is_reported(chest: FloatArray) -> None:
    encoder = build("timm ViT")
    (found,) = explain(encoder, chest, PHRASES[:1], method="gscorecam", k=4)
    assert found.layer == encoder.default_layer()


def test_a_sigmoid_trained_tower_gives_probabilities(chest: FloatArray) -> None:
    encoder = build("ConvNeXt")
    raw = method_class("dense")(activation="sigmoid").raw(encoder, chest, PHRASES)
    (found, _) = explain(encoder, chest, PHRASES, method="dense", activation="sigmoid")
    np.testing.assert_allclose(found.map, torch.sigmoid(raw.maps[0]).numpy(), atol=1e-6)

"""The parts of a text tower that reads English: sentences, the projection and its bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from lexiseg.models.encoders.open_clip_folder import build_tokenizer
from lexiseg.models.families import ModelFiles
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.int8 import SCALE
from recipe.encoder import open_clip_config
from recipe.export import export_encoder
from recipe.text import (
    TextSettings,
    build_tower,
    check_minilm,
    learn_projection,
    places,
    sentence_embeddings,
    small_text,
    text_config,
    write_text_tower_files,
)
from recipe.wordings.phrases import NOTHING
from tests.helpers.checkpoints import make_bert_config

OLD: dict[str, Any] = {
    "mean": 0.25, "std": 0.25, "embed_dim": 24, "image_size": 64, "image_tower": "fpn_efficientnet_lite0",
    "init_logit_scale": 2.3, "init_logit_bias": -4.0,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
SETTINGS = TextSettings(context_length=16, steps=3, batch=8)


def tokenizer_of(folder: Path) -> Any:
    return build_tokenizer(ModelFiles(str(folder), folder, offline=True))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sentence encoder's folder: configuration, tokenizer, random weights."""
    from transformers import AutoModel, BertConfig

    folder = make_bert_config(tmp_path_factory.mktemp("minilm"), size="tiny")
    config = BertConfig.from_pretrained(folder)
    config.vocab_size, config.hidden_size, config.intermediate_size = 1000, 64, 512
    config.save_pretrained(folder)
    torch.manual_seed(0)
    state = AutoModel.from_config(config, add_pooling_layer=True).state_dict()
    save_file({name: array.contiguous() for name, array in state.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder as the recipe exports it."""
    folder = tmp_path_factory.mktemp("old")
    torch.manual_seed(0)
    export_encoder(open_clip.CLIP(**open_clip_config(OLD)["model_cfg"]), OLD, folder)
    return folder


class TestSentences:
    def test_the_order_stays_and_padding_does_not_matter(self, minilm: Path, tmp_path: Path) -> None:
        write_text_tower_files(minilm, tmp_path)
        config = text_config({"model_cfg": {"embed_dim": 24}}, context_length=16)
        (tmp_path / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": {**config["model_cfg"], "vision_cfg": {}}})
        )
        tower, tokenizer = (
            build_tower(tmp_path, minilm, config),
            build_tokenizer(ModelFiles(str(tmp_path), tmp_path, offline=True)),
        )
        phrases = ["the left lung of a mass", "head", "breast tumor", "lung"]
        together = sentence_embeddings(tower, tokenizer(phrases), batch=3)
        alone = torch.cat([sentence_embeddings(tower, tokenizer([phrase])) for phrase in phrases])
        torch.testing.assert_close(together, alone)

    def test_other_weights_than_the_recipes_are_refused(self, minilm: Path) -> None:
        with pytest.raises(ValueError, match=r"has sha256 .*, expected 53aa5117"):
            check_minilm(minilm)

    def test_eight_bits_are_near(self) -> None:
        torch.manual_seed(0)
        layer = nn.Linear(300, 200)
        state = small_text(layer)
        back = state["weight"].float() * state["weight" + SCALE][:, None]
        assert ((back - layer.weight).abs() <= state["weight" + SCALE][:, None] * 0.5001).all()
        assert state["bias"].dtype == torch.float16

    def test_the_table_of_tokens_is_in_four_bits(self) -> None:
        torch.manual_seed(0)
        tower = nn.ModuleDict({"word_embeddings": nn.Embedding(1000, 64)})
        state = small_text(tower)
        assert state["word_embeddings.weight"].dtype == torch.uint8  # two numbers to a byte
        assert state["word_embeddings.weight" + SCALE].shape == (1000,)


class TestLearning:
    def test_sentences_land_on_their_vectors_and_the_rest_on_nothings(self) -> None:
        generator = torch.Generator().manual_seed(0)
        centres = 3 * torch.randn(6, 16, generator=generator)
        own = torch.arange(6).repeat_interleave(40).clamp(max=2)  # the last four kinds are nothing's
        sentences = centres.repeat_interleave(40, 0) + 0.1 * torch.randn(240, 16, generator=generator)
        vectors = torch.eye(3, 8)
        torch.manual_seed(0)
        projection = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
        settings = TextSettings(steps=300, batch=32, lr=1e-2, noise=0.05)
        learn_projection(projection, sentences, own, vectors, scale=10.0, bias=-4.0, settings=settings, seed=0)
        near = (functional.normalize(projection(sentences), dim=1) * vectors[own]).sum(1)
        assert near.min() > 0.95

    def test_places_are_unit_and_nothing_is_the_last(self, old: Path) -> None:
        encoder = load_encoder(str(old), device="cpu", precision="float32")
        found = places(encoder, ["lungs", NOTHING, "heart"], seed=0, count=5)
        assert list(found) == ["lungs", "heart", NOTHING]
        for vector in found.values():
            torch.testing.assert_close(vector.norm(), torch.tensor(1.0))

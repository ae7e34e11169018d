"""A new text tower for frozen image towers: what it learns, and the folder that it is written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from lexiseg.models.encoders.open_clip_folder import build_tokenizer
from lexiseg.models.families import ModelFiles
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.int8 import SCALE
from lexiseg.models.weights.records import sha256_of
from recipe.encoder import open_clip_config
from recipe.export import export_encoder
from recipe.text import (
    WEIGHTS,
    TextSettings,
    build_tower,
    check_minilm,
    learn_projection,
    places,
    sentence_embeddings,
    small_text,
    text_config,
    train,
    write_text_tower_files,
)
from recipe.wordings.phrases import NOTHING, PhraseSettings
from tests.helpers.checkpoints import make_bert_config

OLD: dict[str, Any] = {
    "mean": 0.25, "std": 0.25, "embed_dim": 24, "image_size": 64, "image_tower": "fpn_efficientnet_lite0",
    "init_logit_scale": 2.3, "init_logit_bias": -4.0,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip
SETTINGS = TextSettings(context_length=16, steps=3, batch=8)
FEW = PhraseSettings(frames=1, denials=0, typos=0, drawn=10)


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


@pytest.fixture(scope="module")
def new(old: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    train(old, minilm, folder, settings=SETTINGS, phrase_settings=FEW, seed=0)
    return folder


class TestFolder:
    def test_the_image_part_is_the_old_one_byte_for_byte(self, old: Path, new: Path) -> None:
        with safe_open(old / WEIGHTS, framework="pt") as before, safe_open(new / WEIGHTS, framework="pt") as after:
            kept = [n for n in before.keys() if n.startswith(("visual.", "logit_"))]  # noqa: SIM118
            assert kept
            assert {n for n in after.keys() if not n.startswith("text.")} == set(kept)  # noqa: SIM118
            for name in kept:
                assert before.get_tensor(name).dtype == after.get_tensor(name).dtype
                assert before.get_tensor(name).equal(after.get_tensor(name))

    def test_it_loads_by_the_ordinary_path_and_sees_as_before(self, old: Path, new: Path) -> None:
        before, after = (load_encoder(str(folder), device="cpu", precision="float32") for folder in (old, new))
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert before.encode_image(pixels).equal(after.encode_image(pixels))
        assert (before.logit_scale, before.logit_bias) == (after.logit_scale, after.logit_bias)

    def test_it_reads_as_the_trained_tower(self, minilm: Path, new: Path) -> None:
        encoder: Any = load_encoder(str(new), device="cpu", precision="float32")
        config = text_config({"model_cfg": {"embed_dim": 24}}, context_length=16)
        tower = build_tower(new, minilm, config)
        phrases = ["breast tumor", "head", "the left lung of a fetal mass"]
        sentences = sentence_embeddings(tower, tokenizer_of(new)(phrases))
        text = encoder.model.text
        torch.testing.assert_close(sentences, sentence_embeddings(text, encoder.tokenizer(phrases)))
        expected = functional.normalize(text.proj(sentences), dim=1)
        torch.testing.assert_close(encoder.encode_text(phrases), expected)

    def test_large_arrays_are_whole_numbers(self, new: Path) -> None:
        with safe_open(new / WEIGHTS, framework="pt") as stored:
            words = "text.transformer.embeddings.word_embeddings.weight"
            assert stored.get_tensor(words).dtype == torch.uint8  # two numbers to a byte
            assert stored.get_tensor(words + SCALE).shape == (1000,)

    def test_two_runs_end_in_the_same_bytes(self, old: Path, minilm: Path, new: Path, tmp_path: Path) -> None:
        train(old, minilm, tmp_path, settings=SETTINGS, phrase_settings=FEW, seed=0)
        assert sha256_of(tmp_path / WEIGHTS) == sha256_of(new / WEIGHTS)


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

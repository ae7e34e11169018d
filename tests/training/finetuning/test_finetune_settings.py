"""Settings as data, the learning rate's course, and which weights move."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from towers import make_tower_folder

from lexiseg.errors import UnknownPreset, UsageError
from lexiseg.models.loading import load_encoder
from lexiseg.training.finetuning.parameters import (
    add_adapters,
    choose_trainable,
    rate_factors,
    tower_of,
    without_adapters,
)
from lexiseg.training.finetuning.settings import FinetuneSettings, load_settings, preset_names
from lexiseg.training.finetuning.step import Towers
from lexiseg.training.finetuning.trainer import rate_factor
from lexiseg.training.optimizing import parameter_groups


class TestPresets:
    def test_the_papers(self) -> None:
        paper = load_settings("paper")
        assert (paper.learning_rate, paper.batch, paper.temperature) == (1e-6, 64, 0.6)
        assert (paper.beta1, paper.beta2, paper.validation, paper.min_caption) == (0.15, 0.15, 0.15, 20)
        assert (paper.loss, paper.schedule) == ("dhn-nce", "halving")

    def test_each_can_be_read(self) -> None:
        assert {"default", "paper"} <= set(preset_names())
        for name in preset_names():
            assert load_settings(name).about

    def test_changes_and_a_file_of_ones_own(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("learning_rate: 1e-4\nbatch: 8\n")
        settings = load_settings(tmp_path / "mine.yaml", batch=4, loss=None)
        assert (settings.learning_rate, settings.batch, settings.loss) == (1e-4, 4, "dhn-nce")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"loss": "triplet"}, "dhn-nce, hn-nce"),
            ({"batch": 1}, "batch is 1; expected a whole number, at least 2"),
            ({"learning_rate": 0.0}, "more than 0"),
            ({"learning_rate": "fast"}, "learning_rate is 'fast'; expected a number"),
            ({"temperature": float("nan")}, "expected a number, 0 to 100"),
            ({"epochs": 1.5}, "epochs is 1.5; expected a whole number"),
            ({"augment": 1}, "augment is 1; expected true or false"),
            ({"freeze": "all"}, "freeze is 'all'; expected one of none, image, text"),
            ({"nonesuch": 1}, "no setting 'nonesuch'"),
        ],
    )
    def test_values_that_cannot_be(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            load_settings("default", **change)

    @pytest.mark.parametrize("name", ["nonesuch", "nonesuch.yaml"])
    def test_unknown_presets(self, name: str) -> None:
        with pytest.raises(UnknownPreset, match="nonesuch"):
            load_settings(name)

    @pytest.mark.parametrize("content", ["[1, 2]", "a: [", ""])
    def test_a_file_that_holds_no_settings(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "mine.yaml").write_text(content)
        with pytest.raises(UnknownPreset):
            load_settings(tmp_path / "mine.yaml")


class TestSchedule:
    def course(self, **changes: Any) -> list[float]:
        settings = FinetuneSettings(**{"epochs": 4, "warmup": 0.0, **changes})
        return [rate_factor(step, settings=settings, per_epoch=5) for step in range(20)]

    def test_cosine_with_warmup(self) -> None:
        found = self.course(schedule="cosine", warmup=0.2)
        assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
        assert found[4:] == sorted(found[4:], reverse=True)
        assert found[12] == pytest.approx(0.5)
        assert 0 < found[-1] < 0.02

    def test_halving(self) -> None:
        assert self.course(schedule="halving")[::5] == [1, 0.5, 0.25, 0.125]
        assert self.course(schedule="halving", halve_every=2)[::5] == [1, 1, 0.5, 0.5]

    def test_constant(self) -> None:
        assert set(self.course(schedule="constant")) == {1.0}


@pytest.fixture
def encoder(tower: Path) -> Any:
    return load_encoder(str(tower), device="cpu", precision="float32")


def trained(model: Any) -> set[str]:
    return {name for name, each in model.named_parameters() if each.requires_grad}


class TestWhatMoves:
    def test_everything_but_the_scale(self, encoder: Any) -> None:
        choose_trainable(encoder.model, FinetuneSettings())
        everything = {name for name, _ in encoder.model.named_parameters()}
        assert everything - trained(encoder.model) == {"logit_scale"}

    def test_a_learnt_temperature(self, encoder: Any) -> None:
        choose_trainable(encoder.model, FinetuneSettings(temperature=0.0))
        assert "logit_scale" in trained(encoder.model)

    @pytest.mark.parametrize(("freeze", "left"), [("image", "text"), ("text", "image")])
    def test_a_frozen_tower(self, encoder: Any, freeze: Any, left: str) -> None:
        choose_trainable(encoder.model, FinetuneSettings(freeze=freeze))
        assert {tower_of(name) for name in trained(encoder.model)} == {left}

    def test_weight_decay_spares_vectors(self, encoder: Any) -> None:
        choose_trainable(encoder.model, FinetuneSettings())
        groups = parameter_groups(encoder.model, weight_decay=0.1)
        decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
        assert decays.keys() == trained(encoder.model)
        assert decays["visual.transformer.resblocks.0.mlp.c_fc.weight"] == 0.1
        for name in (
            "visual.transformer.resblocks.0.mlp.c_fc.bias",
            "ln_final.weight",
            "positional_embedding",
        ):
            assert decays[name] == 0

    def test_layers_learn_slower_the_deeper_they_lie(self, encoder: Any) -> None:
        choose_trainable(encoder.model, FinetuneSettings())
        factor = rate_factors(encoder.model, layer_decay=0.5)
        groups = parameter_groups(encoder.model, weight_decay=0.1, factor=factor)
        factors = {name: group["factor"] for group in groups for name in group["names"]}
        block = "visual.transformer.resblocks.{}.mlp.c_fc.weight".format
        assert [factors[block(layer)] for layer in range(3)] == [0.125, 0.25, 0.5]
        assert factors["visual.conv1.weight"] == 0.0625
        assert factors["visual.proj"] == 1
        assert factors["transformer.resblocks.1.mlp.c_fc.weight"] == 0.5
        assert factors["token_embedding.weight"] == 0.125

    def test_batch_norms_keep_their_statistics(self, tmp_path: Path) -> None:
        encoder = load_encoder(str(make_tower_folder(tmp_path, "timm ResNet")), device="cpu", precision="float32")
        towers, size = Towers(encoder), encoder.input_size
        before = {name: each.clone() for name, each in towers.named_buffers()}
        assert any("running_var" in name for name in before)
        towers.train()
        assert towers.training
        towers(torch.rand(2, 3, size, size), encoder.tokenizer(["left", "right"]))
        assert all(torch.equal(before[name], each) for name, each in towers.named_buffers())


@pytest.mark.skipif(find_spec("peft") is None, reason="adapters need peft: pip install 'lexiseg[train]'")
class TestAdapters:
    def test_they_begin_without_effect_and_fold_in_without_a_change(self, encoder: Any) -> None:
        phrases = ["a bright square", "upper left"]
        before = encoder.encode_text(phrases)
        names = {name for name, _ in encoder.model.named_parameters()}
        add_adapters(encoder.model, rank=2)
        choose_trainable(encoder.model, FinetuneSettings(lora_rank=2))
        assert torch.equal(encoder.encode_text(phrases), before)
        assert all("lora_" in name for name in trained(encoder.model))
        with torch.no_grad():
            for name, each in encoder.model.named_parameters():
                if "lora_B" in name:
                    each.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        after = encoder.encode_text(phrases)
        assert not torch.allclose(after, before, atol=1e-3)
        without_adapters(encoder.model)
        assert torch.equal(encoder.encode_text(phrases), after)
        exact, tokens = encoder.model.double(), encoder.tokenizer(phrases)
        plain = without_adapters(exact)
        assert {name for name, _ in plain.named_parameters()} == names
        assert torch.allclose(plain.encode_text(tokens), exact.encode_text(tokens), rtol=0, atol=1e-12)

    def test_a_frozen_tower_has_none(self, encoder: Any) -> None:
        assert {tower_of(name) for name in add_adapters(encoder.model, rank=2, freeze="text")} == {"image"}

    def test_they_train_and_leave_an_ordinary_folder(self, pairs_csv: Path, tower: Path, tmp_path: Path) -> None:
        from lexiseg.training.finetuning.finetune import finetune

        settings = FinetuneSettings(
            lora_rank=2, epochs=1, batch=8, learning_rate=1e-2, precision="float32", validation=0.3
        )
        finetune(pairs_csv, tmp_path, encoder=str(tower), settings=settings, device="cpu")
        first, second = (load_encoder(str(each), device="cpu") for each in (tower, tmp_path))
        names = [name for name, _ in first.model.named_parameters()]
        assert names == [name for name, _ in second.model.named_parameters()]
        assert not torch.equal(first.encode_text(["left"]), second.encode_text(["left"]))

"""The next encoder's image tower: places of concepts, what a batch says of them, and what is exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lexiseg.models.encoders.open_clip_folder import CONFIG_NAME
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.int8 import SCALE
from lexiseg.models.weights.records import bundled_folder, sha256_of
from lexiseg.saliency.kinds import read_gate
from recipe.augment import AugmentSettings, augment
from recipe.concept_encoder import (
    PARENTS,
    ConceptBatches,
    ConceptEncoder,
    ConceptTask,
    apart,
    begin_from_bundled,
    present_shares,
    supervise,
)
from recipe.concept_towers import Trained, older_tower, side_by_side
from recipe.data import Sample, phantom_samples
from recipe.encoder import open_clip_config
from recipe.export import export_concepts
from recipe.sets import KIND, concepts, load_sets
from recipe.text import build_tower, sentence_embeddings
from recipe.train import CONFIG, loop_of
from recipe.wordings.phrases import NOTHING, PhraseSettings
from recipe.words_to_places import TAUGHT_SINCE, WEIGHTS, names_something, phrases_of_places, train
from tests.recipe.test_text_tower import SETTINGS, minilm  # noqa: F401  (a fixture)

SMALL: dict[str, Any] = {
    "mean": 0.25, "std": 0.5, "embed_dim": 80, "image_size": 64, "image_tower": "fpn_efficientnet_lite0",
    "text": {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},
    "init_logit_scale": 2.3, "init_logit_bias": -4.0, "noise": 0.3, "warmup": 1, "weight_decay": 0.05, "clip": 1.0,
    "ema": 0.9, "shares": {"phantom": 0.5, "isic": 0.5, "organs_ct": 0.1},
    "augment_of": {"organs_ct": {"flip": 0.0}},
    "phases": [{"resolution": 64, "batch": 4, "steps": 3, "lr": 1e-3, "augment": {"tint": 0.5, "view": 0.0}}],
    "loss": {"dense": 1.0, "dice": 1.0, "negative": 1.0, "close": 0.5, "presence": 0.6},
}  # fmt: skip
FEW = PhraseSettings(frames=1, denials=1, typos=0, drawn=30)


def lesion(source: str = "isic", kind: str = "skin", name: str = "skin lesion") -> Sample:
    image = np.full((64, 64, 3), 150, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    return Sample(image, (64, 64), {name: mask}, frozenset(), kind, source, "")


def samples() -> list[Sample]:
    return [*phantom_samples(4, 64, 0), *(lesion() for _ in range(4))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps, with its export."""
    folder = tmp_path_factory.mktemp("next")
    model = loop_of(ConceptTask(SMALL, samples(), 1), SMALL, folder, device="cpu").run(every=2)
    export_concepts(model, SMALL, folder / "model")
    return folder


@pytest.fixture(scope="module")
def worded(trained: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The folder of the encoder with its words."""
    folder = tmp_path_factory.mktemp("words") / "clip"
    train([trained / "model"], minilm, folder, settings=SETTINGS, phrase_settings=FEW, seed=0)
    return folder


class TestPlaces:
    def test_they_are_apart(self) -> None:
        found = apart(20, 32)
        torch.testing.assert_close(found @ found.T, torch.eye(20), atol=1e-5, rtol=0)
        assert apart(40, 32).shape == (40, 32)

    def test_known_ones_are_kept_and_others_are_at_right_angles(self) -> None:
        model = ConceptEncoder(SMALL, concepts())
        known = torch.nn.functional.normalize(torch.randn(3, 80, generator=torch.Generator().manual_seed(1)), dim=1)
        model.place(["lungs", "brain tumor", "fetal head"], known)
        places = dict(zip(model.names, model.places.detach(), strict=True))
        torch.testing.assert_close(places["lungs"], known[0])
        assert abs(float(places["polyp"] @ known[0])) < 1e-4
        assert float(places["left kidney"] @ places["kidneys"]) == pytest.approx(0.6, abs=0.1)

    def test_parents_are_concepts(self) -> None:
        assert {*PARENTS, *PARENTS.values()} <= set(concepts())


def test_a_tower_goes_on_as_it_ships() -> None:
    """Positions' log-odds of what the first tower alone answers, and kinds, are those of the shipped encoder."""
    recipe = yaml.safe_load(CONFIG.read_text())["next_more"]
    model = ConceptEncoder(recipe, concepts()).eval()
    begin_from_bundled(model, 0)
    encoder: Any = load_encoder("bundled", device="cpu", precision="float32")
    pixels = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense, _, places = model((pixels - 0.25) / 0.5, torch.zeros(1))
    for name in ("liver", "polyp"):
        ours = model.logit_scale.exp() * torch.einsum("ehw,e->hw", dense[0], places[model.names.index(name)])
        with encoder.held_against(encoder.encode_text([name])):
            positions = encoder.encode_dense(pixels)[0]
        theirs = encoder.logit_scale * torch.einsum("ehw,e->hw", positions, encoder.encode_text([name])[0])
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    gate = read_gate(bundled_folder("encoder"))
    assert gate is not None
    own = torch.nn.functional.normalize(gate.weights[0, : recipe["embed_dim"]], dim=0)
    torch.testing.assert_close(places[model.names.index(KIND + gate.names[0])], own, atol=1e-4, rtol=0)


class TestSupervision:
    def view_of(self, sample: Sample) -> Any:
        return augment(sample, 64, np.random.default_rng(0), AugmentSettings(), 0.25, plain=True)

    def test_every_concept_is_asked_of_every_image(self) -> None:
        sample, names = lesion(), (*concepts(), "")
        known = supervise([sample], [self.view_of(sample)], names, 8)
        said = {name: (float(known.presence[0, k]), float(known.weights[0, k])) for k, name in enumerate(names)}
        assert said["skin lesion"] == (1, 1)
        assert said["tumor"] == (-1, 0)  # may be called so: neither positive nor negative
        assert said["lungs"] == said["polyp"] == said[""] == (0, 1)
        assert said[KIND + "skin"] == (1, 0) and said[KIND + "chest"] == (0, 0)  # a kind has no outline
        target = known.targets[0, names.index("skin lesion")]
        assert target.mean() == pytest.approx(0.25, abs=0.02)

    def test_an_organ_that_a_slice_does_not_cut_is_close(self) -> None:
        sample, names = lesion("organs_ct", "abdominal CT", "liver"), ("liver", "spleen", "vertebrae", "polyp")
        known = supervise([sample], [self.view_of(sample)], names, 8)
        assert known.presence[0].tolist() == [1, 0, -1, 0]
        assert known.close[0].tolist() == [False, True, False, False]

    def test_a_part_of_a_scan_need_not_look_like_its_kind(self) -> None:
        sample, names = lesion(), (KIND + "skin", KIND + "chest")
        settings = AugmentSettings(view=1.0)
        views = [augment(sample, 64, np.random.default_rng(seed), settings, 0.25) for seed in range(4)]
        known = supervise([sample] * 4, views, names, 8)
        assert known.presence.tolist() == [[-1, 0]] * 4


class TestBatches:
    def test_a_batch_is_a_function_of_seed_and_step(self) -> None:
        one, other = ConceptBatches(SMALL, samples(), 1), ConceptBatches(SMALL, samples(), 1)
        assert one.batch(2).pixels.equal(other.batch(2).pixels)
        assert not one.batch(2).pixels.equal(one.batch(1).pixels)
        assert one.batch(0).pixels.shape == (4, 3, 64, 64)
        assert one.batch(0).noise.norm(dim=1).mean() == pytest.approx(0.3, rel=0.1)

    def test_a_source_has_changes_of_its_own(self) -> None:
        batches = ConceptBatches(SMALL, samples(), 1)
        phase = SMALL["phases"][0]
        assert batches._changes(phase, "organs_ct").flip == 0 and batches._changes(phase, "isic").flip == 0.5

    def test_a_source_without_a_share_is_refused(self) -> None:
        assert present_shares({"isic": 1.0, "busi": 1.0}, [lesion()]) == {"isic": 1.0}
        with pytest.raises(ValueError, match=r"\['isic'\] have no share"):
            present_shares({"busi": 1.0}, [lesion()])

    def test_the_recipe_has_a_share_for_every_set_and_changes_for_no_other(self) -> None:
        recipe = yaml.safe_load(CONFIG.read_text())["next"]
        _, sources = load_sets()
        assert set(recipe["shares"]) == {*sources, "phantom"}
        assert set(recipe["augment_of"]) <= set(sources)
        for each in [*recipe["augment_of"].values(), *(p["augment"] for p in recipe["phases"])]:
            AugmentSettings(**each)


class TestTraining:
    def test_a_run_that_stopped_goes_on(self, trained: Path, tmp_path: Path) -> None:
        class Killed(Exception):
            pass

        def kill(model: Any, step: int) -> None:
            raise Killed

        with pytest.raises(Killed):
            loop_of(ConceptTask(SMALL, samples(), 1), SMALL, tmp_path, device="cpu").run(every=2, after=kill)
        model: Any = loop_of(ConceptTask(SMALL, samples(), 1), SMALL, tmp_path, device="cpu").run(every=2)
        unbroken = load_file(trained / "model" / "concepts.safetensors")
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, unbroken[name], msg=name)

    def test_every_term_is_finite_and_moves_tower_and_places(self) -> None:
        task = ConceptTask(SMALL, samples(), 1)
        terms = task.loss(task.batch(0), torch.device("cpu"))
        assert set(terms) == set(SMALL["loss"])
        torch.stack(list(terms.values())).sum().backward()
        for weight in (task.model.places, task.model.visual.trunk.classifier[0].weight, task.model.logit_bias):
            assert weight.grad is not None and float(weight.grad.abs().sum()) > 0


class TestWords:
    def test_it_loads_by_the_ordinary_path(self, trained: Path, worded: Path) -> None:
        encoder: Any = load_encoder(str(worded), device="cpu", precision="float32")
        state = load_file(worded / WEIGHTS)
        assert any(name.startswith("visual.") and name.endswith(SCALE) for name in state)
        about = json.loads((trained / "model" / "concepts.json").read_text())
        assert about["names"][-1] == "" and set(concepts()) < set(about["names"])
        dense, whole = encoder.encode_dense_and_image(torch.rand(1, 3, 64, 64))
        assert dense.shape == (1, 80, 8, 8) and whole.shape == encoder.encode_text(["liver"]).shape == (1, 80)
        assert (worded.parent / "sentences.pt").is_file()
        assert (encoder.names("liver"), encoder.names("prostate")) == ("liver", "")
        gate = read_gate(worded)
        assert gate is not None and gate.encoder == encoder.weights.sha256
        assert gate.holds["polyp"] == {"colon"} and "chest" not in gate.holds["polyp"]
        assert gate.weights.shape == (len(gate.names), 80)

    def test_it_reads_as_the_sentence_encoder(self, worded: Path, minilm: Path) -> None:  # noqa: F811
        encoder: Any = load_encoder(str(worded), device="cpu", precision="float32")
        tower = build_tower(worded, minilm, json.loads((worded / CONFIG_NAME).read_text()))
        tokens = encoder.tokenizer(["breast tumor", "head", "the left lung of a fetal mass"])
        torch.testing.assert_close(sentence_embeddings(tower, tokens), sentence_embeddings(encoder.model.text, tokens))

    def test_two_runs_end_in_the_same_bytes(self, trained: Path, worded: Path, minilm: Path, tmp_path: Path) -> None:  # noqa: F811
        train([trained / "model"], minilm, tmp_path / "clip", settings=SETTINGS, phrase_settings=FEW, seed=0)
        assert sha256_of(tmp_path / "clip" / WEIGHTS) == sha256_of(worded / WEIGHTS)


class TestSideBySide:
    PIXELS = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def tower(self, seed: int, architecture: str, scale: float) -> tuple[ConceptEncoder, Trained]:
        torch.manual_seed(seed)
        settings = {**SMALL, "image_tower": architecture, "init_logit_scale": scale}
        model = ConceptEncoder(settings, concepts()).eval()
        return model, Trained(list(model.names), dict(model.state_dict()), open_clip_config(settings))

    def joined(self, towers: list[Trained], architecture: str) -> ConceptEncoder:
        found = side_by_side(towers, architecture)
        settings = {**SMALL, "embed_dim": 80 * len(towers), "image_tower": architecture}
        model = ConceptEncoder(settings, concepts()).eval()
        model.load_state_dict(found.state)
        assert found.config["model_cfg"] == open_clip_config(settings)["model_cfg"] | {"init_logit_scale": 2.0}
        return model

    def log_odds(self, model: ConceptEncoder) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            dense, whole, places = model(self.PIXELS, torch.zeros_like(model.places))
            scale = model.logit_scale.exp()
            return torch.einsum("behw,ke->bkhw", dense, places) * scale, whole @ places.T * scale

    def test_the_log_odds_are_the_mean_of_both(self) -> None:
        one, first = self.tower(0, "fpn_efficientnet_lite2", 2.0)
        other, second = self.tower(1, "fpn_tiny_vit_5m", 2.6)
        joined = self.joined([first, second], "fpn_lite2_tiny_vit_5m")
        for both, each, again in zip(*map(self.log_odds, (joined, one, other)), strict=True):
            torch.testing.assert_close(both, (each + again) / 2, atol=1e-4, rtol=1e-4)

    def test_towers_that_know_less_answer_for_what_they_know(self) -> None:
        models, towers = zip(
            self.tower(0, "fpn_efficientnet_lite2", 2.0),
            self.tower(1, "fpn_tiny_vit_5m", 2.6),
            self.tower(2, "fpn_sam2_hiera_tiny", 1.5),
            strict=True,
        )
        known = ["lungs", "fetal head", "brain tumor"]
        rows = [towers[0].names.index(name) for name in known]
        less = [replace(t, names=known, state={**t.state, "places": t.state["places"][rows]}) for t in towers[1:]]
        joined = self.joined([towers[0], *less], "fpn_lite2_tiny_vit_5m_hiera_tiny")
        for whole, *each in zip(*map(self.log_odds, (joined, *models)), strict=True):
            expected = each[0].clone()
            expected[:, rows] = torch.stack([part[:, rows] for part in each]).mean(0)
            torch.testing.assert_close(whole, expected, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(joined.places.norm(dim=1), torch.ones(len(joined.names)))

    def test_one_is_itself_and_other_concepts_are_refused(self) -> None:
        _, first = self.tower(0, "fpn_efficientnet_lite0", 2.0)
        assert side_by_side([first], "") is first
        with pytest.raises(ValueError, match="different concepts"):
            side_by_side([first, replace(first, names=["lungs", "moon"])], "")

    def test_a_older_tower_says_what_it_says_in_the_bundled_encoder(self) -> None:
        tower = older_tower(1, ["lungs", "polyp", "fetal head", "breast tumor"])
        assert tower.names == ["breast tumor", "fetal head"]
        encoder: Any = load_encoder("bundled", device="cpu", precision="float32")
        shares, rows = encoder.model.visual.trunk.shares, encoder.encode_text(tower.names)
        width = rows.shape[1] // len(shares)
        part = rows[:, width : 2 * width]
        torch.testing.assert_close(tower.state["places"], torch.nn.functional.normalize(part, dim=1))
        expected = encoder.logit_scale * part.norm(dim=1).mean() * shares[1].sqrt() * len(shares)
        assert tower.scale == pytest.approx(float(expected))
        trunk = encoder.model.visual.trunk.towers[1].state_dict()
        assert all(torch.equal(tower.weights[name], value) for name, value in trunk.items())
        with pytest.raises(ValueError, match="no tower 7"):
            older_tower(7, ["fetal head"])


class TestPhrases:
    PHRASES = phrases_of_places((*concepts(), NOTHING), settings=FEW, seed=0)

    def test_every_concept_with_wordings_and_every_kind_has_phrases(self) -> None:
        labels = set(self.PHRASES.labels)
        assert {"liver", "polyp", "optic cup", KIND + "eye", NOTHING} <= labels

    def test_what_a_set_shows_by_now_is_not_called_nothing(self) -> None:
        nothing = {
            text for text, label in zip(self.PHRASES.texts, self.PHRASES.labels, strict=True) if label == NOTHING
        }
        assert not nothing & {"liver", "thyroid nodule", "skin cancer", "kidney", "aorta", *TAUGHT_SINCE}

    def test_names(self) -> None:
        named = {"liver", "aorta"}
        assert names_something("the liver", named) and names_something("skin melanoma", named)
        assert names_something("carcinoma of the thyroid", named)
        assert not names_something("prostate cancer", named) and not names_something("knee skin", named)

    def test_a_target_without_a_place_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"liver.* have wordings and no place"):
            phrases_of_places([c for c in concepts() if c != "liver"], settings=FEW, seed=0)

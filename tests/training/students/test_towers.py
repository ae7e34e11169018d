"""Towers that learn: what they answer before and after, their losses, and how a killed training goes on."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discs import disc, write_discs
from PIL import Image as Pillow
from safetensors.torch import save_file

from lexiseg.errors import NoLabels, UsageError
from lexiseg.files import sha256_of
from lexiseg.models.fpn import STRIDE
from lexiseg.models.loading import load_encoder
from lexiseg.pipelines.preset import load_preset
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.phrases import phrase_set
from lexiseg.training.students import towers_trainer
from lexiseg.training.students.export import towers_program
from lexiseg.training.students.labels import LabelSet, read_true_masks
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.soft import SoftTeacher, read_soft, soft_path, write_soft
from lexiseg.training.students.towers import PhraseTowers, model_names
from lexiseg.training.students.towers_data import Look, Pool, ViewMaker, load_pool
from lexiseg.training.students.towers_trainer import (
    TowersTrained,
    TowersTrainer,
    balanced_chances,
    soft_dice_losses,
    soft_losses,
    unlocked,
)
from lexiseg.values.scans import Image

LOOK = Look(size=64, grid=64 // STRIDE, fill=0.25, deviation=0.5, percentile=100)
SETTINGS = TrainSettings(network="towers", steps=30, batch=4, rate=3e-3, checks=3, average=0.8, anchor=0.0, patience=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small encoder with one pyramid and random weights."""
    import open_clip

    folder = tmp_path_factory.mktemp("pyramid")
    tower = {"timm_model_name": "fpn_efficientnet_lite0", "timm_model_pretrained": False, "timm_pool": "avg"}
    config = {
        "model_cfg": {
            "embed_dim": 32,
            "vision_cfg": {**tower, "timm_proj": "", "image_size": 64},
            "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
            "init_logit_bias": -4.0,
        },
        "preprocess_cfg": {"mean": [0.25] * 3, "std": [0.5] * 3},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def network(folder: Path, part: str = "pyramids") -> PhraseTowers:
    encoder = load_encoder(str(folder), device="cpu", precision="float32")
    phrases = embed_phrases(encoder, [phrase_set("lungs")])
    return PhraseTowers(encoder, phrases[0].positive[None], part=part)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelSet:
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder, 12)
    return read_true_masks(folder / "manifest.csv", ["disc"])


@pytest.fixture(scope="module")
def pool(labels: LabelSet) -> Pool:
    return load_pool(labels, LOOK)


def trainer(
    folder: Path, pool: Pool, path: Path, *, resume: bool = False, part: str = "pyramids", **changes: Any
) -> TowersTrainer:
    return TowersTrainer(
        network(folder, part), pool, look=LOOK, settings=replace(SETTINGS, **changes), flips=True,
        device=torch.device("cpu"), checkpoint=path / "checkpoint.pt", start="0", resume=resume,
        log=lambda history: None, tell=lambda *told: None,
    )  # fmt: skip


class TestNetwork:
    def test_the_mean_of_the_bundled_towers_is_the_encoders_own_map(self) -> None:
        encoder = load_encoder("bundled", device="cpu", precision="float32")
        phrase = embed_phrases(encoder, [phrase_set("lungs", ensemble=True)])[0].positive
        towers = PhraseTowers(encoder, phrase[None])
        pixels = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            maps, wholes = towers((pixels - 0.25) / 0.5)
        dense, whole = encoder.encode_dense_and_image(pixels)
        expected = encoder.logit_scale * torch.einsum("behw,e->bhw", dense, phrase) + encoder.logit_bias
        # Cosines of three networks, each a sum of some hundred products in float32: 1e-4 of log-odds of up to ten.
        torch.testing.assert_close(towers.mean(maps)[:, 0], expected, atol=2e-4, rtol=1e-4)
        expected_whole = encoder.logit_scale * whole @ phrase + encoder.logit_bias
        torch.testing.assert_close(towers.mean(wholes)[:, 0], expected_whole, atol=2e-4, rtol=1e-4)

    def test_the_networks_below_the_pyramids_do_not_learn(self, small: Path) -> None:
        found = network(small)
        assert list(found.learn())
        frozen = [p for name, p in found.towers.named_parameters() if "backbone" in name]
        assert frozen
        assert not any(p.requires_grad for p in frozen)

    def test_by_default_the_projections_alone_learn(self, small: Path) -> None:
        names = network(small, "projections").learning
        assert names
        assert all(".classifier." in name for name in names)

    def test_they_become_a_file_that_answers_as_they_do(self, small: Path) -> None:
        encoder = load_encoder(str(small), device="cpu", precision="float32")
        program = towers_program(encoder, ["lungs", "heart"], load_preset("demo", phrases={"ensemble": False}))
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        file = io.BytesIO()
        with torch.no_grad():
            expected = program(pixels)
            torch.export.save(torch.export.export(program, (pixels,)), file)
        file.seek(0)
        found: Any = torch.export.load(file).module()
        torch.testing.assert_close(found(pixels), expected)

    def test_projections_learn_on_copies_of_what_does_not(self, small: Path) -> None:
        found = network(small, "projections")
        learning = list(found.learn())
        pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        maps, _ = found(pixels)
        expected, _ = network(small, "pyramids")(pixels)
        # Norms folded into convolutions, in float32: 1e-4 of log-odds of up to ten.
        torch.testing.assert_close(maps, expected, atol=2e-4, rtol=1e-4)
        maps.mean().backward()
        assert all(p.grad is not None for p in learning)
        assert not any(p.requires_grad for name, p in found.towers.named_parameters() if ".classifier." not in name)
        with torch.no_grad():
            learning[-1].add_(1.0)
        assert not torch.allclose(found(pixels)[0], maps)

    def test_its_tensors_have_names_of_the_model(self, small: Path) -> None:
        encoder: Any = load_encoder(str(small), device="cpu")
        named = model_names(encoder, network(small).tuned())
        own = encoder.model.state_dict()
        assert named
        assert all(own[name].shape == value.shape for name, value in named.items())

    def test_another_encoder_is_refused(self) -> None:
        class Other:
            name, logit_scale, logit_bias = "other", 1.0, 0.0

        with pytest.raises(UsageError, match="other has no feature pyramids"):
            PhraseTowers(Other(), torch.zeros(1, 4))  # type: ignore[arg-type]


class TestLosses:
    def test_none_where_the_answer_is_the_label(self) -> None:
        p = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        valid = torch.ones(2, 1, 8, 8, dtype=torch.float64)
        assert soft_dice_losses(p, p, valid).abs().max() < 1e-12

    def test_least_at_the_label_itself(self) -> None:
        """Unlike the usual soft Dice, which wants p = 0.3 drawn as 0."""
        target = torch.full((1, 1, 4, 4), 0.3, dtype=torch.float64)
        valid = torch.ones_like(target)
        at = {q: float(soft_losses(torch.full_like(target, q).logit(), target, valid)) for q in (0.1, 0.3, 0.6)}
        assert at[0.3] == min(at.values())

    def test_what_lies_outside_the_scan_does_not_count(self) -> None:
        target, valid = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
        valid[..., :2] = 1
        logits = torch.full((1, 1, 4, 4), -9.0)
        other = logits.clone()
        other[..., 2:] = 9
        torch.testing.assert_close(soft_losses(other, target, valid), soft_losses(logits, target, valid))

    def test_two_empty_maps_agree(self) -> None:
        empty = torch.zeros(1, 1, 4, 4)
        assert soft_dice_losses(empty, empty, torch.ones(1, 1, 4, 4)).item() == 0


class TestPool:
    def test_a_scan_lies_where_the_encoder_sees_it(self, pool: Pool) -> None:
        """Discs are 36 x 48 in a square of 64: 48 rows of it."""
        assert {(p.top, p.height, p.left, p.width) for p in pool.places} == {(8, 48, 0, 64)}
        assert pool.images.shape[1:] == (1, 64, 64)
        assert int(pool.images[0, 0, 0, 0]) == round(255 * LOOK.fill)
        bright = pool.images[:, 0].float()[pool.targets[:, 0] > 200].mean()
        assert bright > 150

    def test_probabilities_come_before_masks(self, labels: LabelSet, tmp_path: Path) -> None:
        write_discs(tmp_path, 2)
        rows = [
            replace(
                row,
                image=tmp_path / "images" / row.image.name,
                extra={**row.extra, "presence": "0.7", "split": "train"},
            )
            for row in labels.rows[:2]
        ]
        write_soft(tmp_path, rows[0].id, np.full((1, 36, 48), 0.6, np.float32))
        soft = replace(labels, rows=tuple(rows), supervised=False)
        found = load_pool(soft, LOOK)
        assert found.targets[0, 0, 32, 32] == 153
        assert set(found.targets[1].unique().tolist()) >= {0, 255}
        assert found.presence[0, 0] == pytest.approx(0.7)

    def test_what_a_person_corrected_comes_before_probabilities(
        self, labels: LabelSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_discs(tmp_path, 2)
        own = read_true_masks(tmp_path / "manifest.csv", ["disc"]).rows
        told = {"presence": "0.7", "split": "train", "weight": "1"}
        rows = [replace(row, extra={**told, "mask_sha256": sha256_of(row.mask or "")}) for row in own]
        write_soft(tmp_path, rows[0].id, np.full((1, 36, 48), 0.6, np.float32))
        soft = replace(labels, rows=tuple(rows), supervised=False)
        before = load_pool(soft, LOOK)
        assert "corrected" not in caplog.text
        half = np.zeros((36, 48), np.uint8)
        half[:, 24:] = 255
        Pillow.fromarray(half).save(tmp_path / "masks" / f"{rows[0].id}.png")
        found = load_pool(soft, LOOK)
        assert caplog.messages == ["masks that were corrected by hand are learnt as they are: 1 of 2"]
        assert (found.targets[0, 0, 32, 16], found.targets[0, 0, 32, 48]) == (0, 255)
        assert found.presence[0, 0] == 1
        assert found.digest() != before.digest()

    def test_a_target_that_no_scan_shows(self, labels: LabelSet, tmp_path: Path) -> None:
        Pillow.fromarray(np.zeros((36, 48), np.uint8)).save(tmp_path / "none.png")
        rows = tuple(replace(row, mask=tmp_path / "none.png") for row in labels.rows)
        with pytest.raises(NoLabels, match="training scans shows 'disc'"):
            load_pool(replace(labels, rows=rows), LOOK)

    def test_views_move_scan_and_label_alike(self, pool: Pool) -> None:
        views = ViewMaker(pool, fill=0.25, flips=True, size=8, seed=0)
        seen = views.at(0, pool.targets)
        inside = seen.images[seen.targets > 0.9].mean()
        outside = seen.images[(seen.targets < 0.1) & (seen.valid > 0.9)].mean()
        assert inside > outside + 0.2

    def test_a_step_is_a_function_of_the_seed(self, pool: Pool) -> None:
        one, other = (ViewMaker(pool, fill=0.25, flips=True, size=4, seed=s) for s in (3, 3))
        one.at(0, pool.targets)
        torch.testing.assert_close(one.at(5, pool.targets).images, other.at(5, pool.targets).images, atol=0, rtol=0)


class TestTraining:
    def test_it_learns_what_it_is_told(self, small: Path, pool: Pool, tmp_path: Path) -> None:
        training = trainer(small, pool, tmp_path)
        found = training.run()
        first = found.history[0]["validation_dice"]
        assert found.score > first + 0.2

    def test_a_killed_one_goes_on_to_the_same_weights(self, small: Path, pool: Pool, tmp_path: Path) -> None:
        whole = trainer(small, pool, tmp_path / "whole", steps=6, robust=("weighting", "refresh")).run()
        (tmp_path / "killed").mkdir()
        part = trainer(small, pool, tmp_path / "killed", steps=6, robust=("weighting", "refresh"))

        def kill(*told: Any) -> None:
            if told[:2] == ("training", 4):
                raise KeyboardInterrupt

        part._tell = kill
        with pytest.raises(KeyboardInterrupt):
            part.run()
        again = trainer(small, pool, tmp_path / "killed", steps=6, robust=("weighting", "refresh"), resume=True).run()
        for name, value in whole.tensors.items():
            torch.testing.assert_close(again.tensors[name], value, atol=0, rtol=0)

    def test_held_out_scans_are_encoded_once_where_their_features_stay(
        self, small: Path, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held, enough = int((~pool.train).sum()), towers_trainer._KEPT
        found: dict[tuple[int, str], TowersTrained] = {}
        asked: dict[tuple[int, str], int] = {}
        for bytes_kept in (enough, 0):
            monkeypatch.setattr(towers_trainer, "_KEPT", bytes_kept)
            for part in ("projections", "pyramids"):
                training = trainer(small, pool, tmp_path, steps=3, robust=(), part=part, anchor=None)
                shown, whole = 0, training.network.features

                def features(images: torch.Tensor, whole: Any = whole) -> Any:
                    nonlocal shown
                    shown += len(images)
                    return whole(images)

                monkeypatch.setattr(training.network, "features", features)
                found[bytes_kept, part], asked[bytes_kept, part] = training.run(), shown
                # What the start's share asked of training scans is asked once.
                assert not any(pool.train[list(places)].any() for places in training._kept)
        assert held
        steps, checks = 3 * SETTINGS.batch, len(found[0, "pyramids"].history)
        assert asked[enough, "projections"] == steps + held
        for each in ((0, "projections"), (0, "pyramids"), (enough, "pyramids")):
            assert asked[each] == steps + checks * held
        for part in ("projections", "pyramids"):
            kept, anew = found[enough, part], found[0, part]
            assert [row["validation_dice"] for row in kept.history] == [row["validation_dice"] for row in anew.history]
            for name, value in anew.tensors.items():
                torch.testing.assert_close(kept.tensors[name], value, atol=0, rtol=0)

    def test_the_whole_start_is_kept_where_that_is_asked(self, small: Path, pool: Pool, tmp_path: Path) -> None:
        training = trainer(small, pool, tmp_path, steps=2, anchor=1.0)
        begun = {name: value.clone() for name, value in training.begun.items()}
        for name, value in training.run().tensors.items():
            torch.testing.assert_close(value, begun[name], atol=0, rtol=0)

    def test_several_targets_at_once(self, small: Path, labels: LabelSet, tmp_path: Path) -> None:
        """Left and right halves of discs, as a label map."""
        rows = []
        for row in labels.rows:
            assert row.mask is not None
            inside = np.asarray(Pillow.open(row.mask)) > 0
            halves = inside * np.where(np.arange(inside.shape[1]) < inside.shape[1] // 2, 1, 2).astype(np.uint8)
            path = tmp_path / f"{row.id}.png"
            Pillow.fromarray(halves).save(path)
            rows.append(replace(row, mask=path))
        pool = load_pool(replace(labels, names=("left half", "right half"), rows=tuple(rows)), LOOK)
        assert pool.targets.shape[:2] == (12, 2)
        assert not ((pool.targets[:, 0] > 200) & (pool.targets[:, 1] > 200)).any()
        encoder = load_encoder(str(small), device="cpu", precision="float32")
        embedded = embed_phrases(encoder, [phrase_set("lungs"), phrase_set("brain tumor")])
        towers = PhraseTowers(encoder, torch.stack([each.positive for each in embedded]), part="pyramids")
        trained = TowersTrainer(
            towers, pool, look=LOOK, settings=replace(SETTINGS, steps=2), flips=False, device=torch.device("cpu"),
            checkpoint=tmp_path / "checkpoint.pt", start="0", resume=False, log=lambda history: None,
            tell=lambda *told: None,
        ).run()  # fmt: skip
        assert len(trained.history) > 1

    def test_an_option_that_towers_do_not_have(self) -> None:
        with pytest.raises(UsageError, match="co-teaching, which the network towers cannot do"):
            TrainSettings(network="towers", robust=("co-teaching",))


class TestOptions:
    def test_a_curriculum_begins_with_the_surer_half(self) -> None:
        weights, places = np.array([0.9, 0.5, 0.8, 0.6], np.float32), np.arange(4)
        assert unlocked(weights, places, 0.0).tolist() == [1, 0, 1, 0]
        assert unlocked(weights, places, 0.5).tolist() == [1, 1, 1, 1]

    def test_balance_draws_the_rarer_kind_more_often(self, pool: Pool) -> None:
        presence = torch.zeros_like(pool.presence)
        presence[:3] = 1
        rare = replace(pool, presence=presence, train=np.ones(len(presence), bool))
        chances = balanced_chances(rare)
        assert chances[0] * 3 == pytest.approx(chances[-1] * 9)


class TestSoftTeacher:
    def test_it_leaves_what_masks_were_cut_from(self, tmp_path: Path) -> None:
        from lexiseg.pipelines.results import TargetResult

        grey, mask = disc(0)
        probability = mask * np.float32(0.8)

        class Teacher:
            preset = "its own"

            def __call__(self, scan: Any, phrases: Any, **more: Any) -> Any:
                target = TargetResult("disc", mask, True, 1.0, 1.0, probability=probability)
                return type("Found", (), {"targets": (target,)})()

        teacher = SoftTeacher(Teacher(), tmp_path)
        assert teacher.preset == "its own"
        teacher(Image(grey.astype(np.float32) / 255, id="a b"), ["disc"])
        with np.load(soft_path(tmp_path, "a b")) as stored:
            np.testing.assert_array_equal(stored["probabilities"], (mask * 204).astype(np.uint8)[None])

    def test_a_scan_without_them_has_none(self, labels: LabelSet) -> None:
        assert read_soft(labels.rows[0]) is None

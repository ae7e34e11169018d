"""The segmenter's training on every set: colour, one of many, and a start from the bundled weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
import yaml

from lexiseg.models.segmenters.sam_folder import TowerSam
from lexiseg.models.weights.records import bundled_folder
from recipe.data import phantom_samples
from recipe.segmenter import MANY, SegmenterBatches, SegmenterTask, one_piece
from recipe.sets import load_sets
from recipe.train import CONFIG
from tests.recipe.test_concept_encoder import lesion
from tests.recipe.test_recipe_training import TINY_SEGMENTER

RECIPE = yaml.safe_load(CONFIG.read_text())
MIXED: dict[str, Any] = {**TINY_SEGMENTER, "batch": 4, "shares": {"phantom": 0.5, "isic": 0.5}}


class TestOnePiece:
    def test_a_piece_of_two(self) -> None:
        mask = torch.zeros(32, 32, dtype=torch.bool)
        mask[2:10, 2:10] = mask[20:30, 20:30] = True
        found = [one_piece(mask, np.random.default_rng(seed)) for seed in range(30)]
        assert {int(piece.sum()) for piece in found} == {64, 100}
        assert all(bool((piece & ~mask).sum() == 0) for piece in found)

    def test_a_speck_is_no_shape(self) -> None:
        mask = torch.zeros(32, 32, dtype=torch.bool)
        mask[3, 3] = mask[20, 20] = True
        assert one_piece(mask, np.random.default_rng(0)).equal(mask)

    def test_many_are_concepts(self) -> None:
        kinds, _ = load_sets()
        assert {c for kind in kinds.values() for c in kind.may} >= MANY


class TestBatches:
    def test_grey_and_colour_share_a_batch(self) -> None:
        samples = [*phantom_samples(4, 128, 0), *(lesion() for _ in range(4))]
        batch = SegmenterBatches(MIXED, samples, 0).batch(0)
        assert batch.pixels.shape[:2] == (4, 3)
        terms = SegmenterTask(MIXED, samples, 0).loss(batch, torch.device("cpu"))
        assert all(torch.isfinite(term) for term in terms.values())

    def test_grey_alone_is_one_plane(self) -> None:
        batch = SegmenterBatches(MIXED, list(phantom_samples(4, 128, 0)), 0).batch(0)
        assert batch.pixels.shape[1] == 1

    def test_of_nuclei_one_is_asked(self) -> None:
        mask = np.zeros((64, 64), np.uint8)
        mask[4:24, 4:24] = mask[40:60, 40:60] = 1
        sample = dataclasses.replace(lesion(), masks={"nuclei": mask}, source="isic")
        settings = {**MIXED, "phases": [{"steps": 1, "lr": 1e-3, "named": 1.0}], "batch": 2}
        batch = SegmenterBatches(settings, [sample, sample], 0).batch(0)
        sides = batch.boxes[..., 2:] - batch.boxes[..., :2]
        assert float(sides.max()) < 0.7 * settings["image_size"]


class TestStart:
    def test_the_next_one_begins_as_the_bundled(self) -> None:
        task = SegmenterTask({**RECIPE["next_segmenter"], "pretrained": None}, list(phantom_samples(4, 128, 0)), 0)
        task.begin()
        bundled = TowerSam.from_pretrained(bundled_folder("segmenter")).float().state_dict()
        for name, value in task.model.state_dict().items():
            torch.testing.assert_close(value, bundled[name], msg=name)

    def test_every_set_has_a_share(self) -> None:
        assert set(RECIPE["next_segmenter"]["shares"]) == {*load_sets()[1], "phantom"}

"""Which network a set is learnt by, and by which preset its student answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lexiseg.errors import UsageError
from lexiseg.pipelines.preset import load_preset
from lexiseg.training.students.labels import LabelSet
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.tuning import chosen_network, preset_of, tune


def labels(*names: str, supervised: bool = False, **preset: Any) -> LabelSet:
    fields = {**load_preset("demo").as_dict(), **preset}
    return LabelSet(names=names, rows=(), supervised=supervised, teacher={} if supervised else {"preset": fields})


class TestChoice:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (labels("breast tumor"), "towers"),
            (labels("left lung", "right lung"), "towers"),
            (labels("breast tumor", supervised=True), "towers"),
            (labels("breast tumor", encoder="hf-hub:org/other"), "unet"),
            (labels("gall bladder"), "unet"),
            (labels("breast tumor", "gall bladder"), "unet"),
        ],
    )
    def test_the_towers_where_the_bundled_encoder_taught_and_knows(self, given: LabelSet, expected: str) -> None:
        assert chosen_network(TrainSettings(), given) == expected

    def test_a_teacher_that_asks_no_encoder_is_no_bundled_one(self) -> None:
        fields = {**load_preset("sam3").as_dict(), "encoder": "bundled"}
        given = LabelSet(names=("liver",), rows=(), supervised=False, teacher={"preset": fields})
        assert chosen_network(TrainSettings(), given) == "unet"

    def test_what_is_asked_for_is_taken(self) -> None:
        assert chosen_network(TrainSettings(network="unet"), labels("breast tumor")) == "unet"
        assert chosen_network(TrainSettings(network="towers"), labels("breast tumor")) == "towers"

    def test_towers_of_what_they_do_not_know(self) -> None:
        with pytest.raises(UsageError, match=r"does not know 'gall bladder'.*use --network unet"):
            chosen_network(TrainSettings(network="towers"), labels("gall bladder"))


class TestPreset:
    def test_the_teachers_with_its_look(self) -> None:
        found = preset_of(labels("lungs", look={"invert": True, "gamma": 1.0}))
        assert found["look"].invert
        assert found["presence"].threshold == load_preset("demo")["presence"].threshold

    def test_a_teacher_that_looked_twice_has_a_student_that_looks_once(self) -> None:
        assert preset_of(labels("lungs", mirrored=True)) == preset_of(labels("lungs"))

    def test_the_default_of_true_masks(self) -> None:
        assert preset_of(labels("lungs", supervised=True)) == load_preset("demo")

    def tuned(self, given: LabelSet, tmp_path: Path, **settings: Any) -> None:
        tune(
            given, replace(TrainSettings(network="towers"), **settings), checkpoint=tmp_path / "checkpoint.pt",
            flips=False, device="cpu", resume=False, log=lambda history: None, tell=lambda *told: None,
        )  # fmt: skip

    def test_a_segmenter_that_nobody_can_find_again(self, tmp_path: Path) -> None:
        """Records name no folders."""
        with pytest.raises(UsageError, match=r"segmenter 'sam_vit_b\.pth' lies where the set does not say"):
            self.tuned(labels("lungs", segmenter="sam_vit_b.pth"), tmp_path)

    def test_towers_do_not_begin_from_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--start none"):
            self.tuned(labels("lungs"), tmp_path, start="none")

"""Wordings as data: what each names, what is held out, what is learnt from, and what nobody knows."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from lexiseg.text.phrases import default_library, phrase_key
from recipe.wordings import (
    Frames,
    Target,
    Wording,
    bare_key,
    load_frames,
    load_others,
    load_targets,
    misspell,
)
from recipe.wordings.phrases import NOTHING, PhraseSettings, held_out_keys, training_phrases
from recipe.wordings.unknown import choose_threshold, nearest_of_other_families

TARGETS, OTHERS, FRAMES = load_targets(), load_others(), load_frames()
FEW = PhraseSettings(frames=2, denials=2, typos=1, drawn=50)


class TestFiles:
    def test_every_target_of_the_library_has_a_file(self) -> None:
        assert {t.name for t in default_library().targets} <= {t.name for t in TARGETS}

    def test_dozens_of_ways_to_say_it(self) -> None:
        for target in TARGETS:
            count = sum(w.kind == "target" for w in target.wordings)
            assert count >= (90 if target.name in ("breast tumor", "brain tumor", "lungs", "fetal head") else 15), (
                target
            )

    def test_no_wording_leads_to_two_places(self) -> None:
        lands: dict[str, str] = {}
        phrases = [(w, t.lands if w.kind == "target" else NOTHING) for t in TARGETS for w in t.wordings]
        for wording, place in [*phrases, *((w, NOTHING) for w in OTHERS)]:
            assert lands.setdefault(phrase_key(wording.text), place) == place, wording

    def test_families_and_single_wordings_are_held_out(self) -> None:
        wordings = [w for t in TARGETS for w in t.wordings]
        count = Counter(w.held_out for w in wordings)
        assert 0.15 < count["wording"] / (count["wording"] + count[""]) < 0.25
        assert count["family"] > 200
        for target in (t for t in TARGETS if t.sets):
            assert any(w.held_out == "family" and w.kind == "target" for w in target.wordings), target.name

    def test_a_targets_own_name_is_taught(self) -> None:
        for target in TARGETS:
            assert not next(w for w in target.wordings if w.text == target.name).held_out

    def test_findings_are_put_to_every_organ(self) -> None:
        findings = {w.text: w for w in OTHERS if w.kind == "finding"}
        assert {"breast fracture", "brain fracture", "lung fracture"} <= findings.keys()
        assert findings["breast trauma"].held_out == findings["lung trauma"].held_out == "family"

    def test_an_unknown_field_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.yaml").write_text("target: x\nsets: [y]\nfamily: []\n")
        with pytest.raises(ValueError, match=r"x\.yaml has unknown fields \['family'\]"):
            load_targets(tmp_path)

    def test_landing_on_what_is_not_known_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.yaml").write_text("target: x\nsets: [y]\nlands_on: z\n")
        with pytest.raises(ValueError, match="lands_on is 'z'"):
            load_targets(tmp_path)

    def test_a_frame_needs_one_gap(self, tmp_path: Path) -> None:
        (tmp_path / "frames.yaml").write_text("frames: [{family: a, frames: ['{} {}']}]\nnegative_frames: []\n")
        with pytest.raises(ValueError, match="exactly one"):
            load_frames(tmp_path)


class TestMisspelling:
    def test_one_long_word_changes(self) -> None:
        for seed in range(200):
            before, after = (
                ["a", "mass", "of", "the", "breast"],
                misspell("a mass of the breast", random.Random(seed)).split(),
            )
            changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
            assert len(changed) <= 1
            assert all(len(a) >= 4 and abs(len(a) - len(b)) <= 1 and a[0] == b[0] for a, b in changed)

    def test_short_words_stay(self) -> None:
        assert misspell("LV", random.Random(0)) == "LV"


class TestTrainingPhrases:
    def test_nothing_held_out_is_among_them(self) -> None:
        phrases = training_phrases(TARGETS, OTHERS, FRAMES, settings=FEW, seed=0)
        assert not {bare_key(text) for text in phrases.texts} & held_out_keys(TARGETS, OTHERS)
        for frame in (*FRAMES.plain_held_out, *FRAMES.negative_held_out):
            assert not set(phrases.texts) & {frame.format(t.name) for t in TARGETS}

    def test_names_land_on_themselves_and_denials_on_nothing(self) -> None:
        targets, frames = two_targets()
        phrases = training_phrases(targets, (), frames, settings=FEW, seed=0)
        label = dict(zip(phrases.texts, phrases.labels, strict=True))
        assert (label["gland"], label["older gland"], label["stone"]) == ("gland", "gland", NOTHING)
        assert label["no gland"] == label["never a gland"] == label["no sign of a gland"] == NOTHING
        assert label["see the gland"] == "gland"

    def test_one_seed_gives_the_same(self) -> None:
        one, two, other = (training_phrases(*two_targets_and(), settings=FEW, seed=seed) for seed in (0, 0, 1))
        assert one == two != other


def two_targets() -> tuple[tuple[Target, ...], Frames]:
    gland = Target(
        name="gland",
        sets=("s",),
        known=True,
        wordings=(
            Wording(text="gland", kind="target", target="gland"),
            Wording(text="no sign of a gland", kind="negation", target="gland"),
        ),
    )
    older = Target(
        name="older gland",
        sets=("s",),
        lands_on="gland",
        wordings=(Wording(text="older gland", kind="target", target="older gland"),),
    )
    stone = Target(name="stone", sets=("s",), wordings=(Wording(text="stone", kind="target", target="stone"),))
    frames = Frames(
        plain=("{}", "see the {}"), plain_held_out=(), negative=("no {}", "never a {}"), negative_held_out=()
    )
    return (gland, older, stone), frames


def two_targets_and() -> tuple[tuple[Target, ...], tuple[Wording, ...], Frames]:
    targets, frames = two_targets()
    return targets, (Wording(text="lamp", kind="nonsense"),), frames


class TestUnknown:
    KNOWN = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]])

    def test_its_own_family_does_not_count(self) -> None:
        found = nearest_of_other_families(self.KNOWN, ["a", "b", "b"])
        torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.0]))
        found = nearest_of_other_families(self.KNOWN, ["a", "b", "c"])
        torch.testing.assert_close(found, torch.tensor([0.0, 0.5**0.5, 0.5**0.5]))

    def test_one_family_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected at least two"):
            nearest_of_other_families(self.KNOWN, ["a", "a", "a"])

    def test_the_threshold_lets_a_share_fall_below(self) -> None:
        scores = torch.linspace(0, 1, 101, dtype=torch.float64)
        assert (scores < choose_threshold(scores, false_unknown=0.1)).double().mean() == pytest.approx(10 / 101)

    def test_a_share_above_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected 0 to 1"):
            choose_threshold(torch.ones(3), false_unknown=2.0)

"""What phrases are read as: how answers are counted, and that the author's phrases are nobody's lesson."""

from __future__ import annotations

import yaml

from lexiseg.text.known import Vocabulary
from lexiseg.text.phrases import PhraseLibrary, Target, phrase_key
from read_phrases import HERE, answer, beside, held_out, of_its_side
from recipe.wordings import load_targets


def test_four_answers() -> None:
    library = PhraseLibrary(targets=(Target(name="heart"), Target(name="lungs")))
    vocabulary = Vocabulary(library, hears={"prostate": ""}.get)
    asked = ("heart", "lungs", "prostate", "zorblax")
    assert [answer(vocabulary, each, "heart") for each in asked] == [
        "that target", "another target", "none of the targets", "unknown",
    ]  # fmt: skip


def test_what_is_held_out_stands_for_its_own_target() -> None:
    found = held_out()
    names = {target.name for target in load_targets() if not target.lands_on}
    assert len(found) == 2 and {target for pairs in found.values() for target, _ in pairs} <= names


def test_the_authors_targets_are_ones_that_are_known() -> None:
    written = yaml.safe_load((HERE / "phrases.yaml").read_text(encoding="utf-8"))
    assert set(written) <= {target.name for target in load_targets()}
    keys = [phrase_key(text) for each in written.values() for texts in each.values() for text in texts]
    assert len(keys) == 320


def test_phrases_beside_an_organ_are_of_two_authors() -> None:
    found = beside(HERE / "phrases_beside.yaml")
    counts = {kind: len(pairs) for kind, pairs in found.items()}
    assert sum(counts[each] for each in counts if "eighth" in each) == 196 and len(counts) == 4
    organs = {organ for pairs in found.values() for organ, _ in pairs}
    assert organs <= {target.name for target in load_targets()} | {"skin"}


def test_a_side_is_asked_for_by_its_name() -> None:
    assert of_its_side("kidneys", "hydronephrosis of the left kidney") == "left kidney"
    assert of_its_side("kidneys", "kidney stones") == "kidneys" and of_its_side("liver", "left liver lobe") == "liver"

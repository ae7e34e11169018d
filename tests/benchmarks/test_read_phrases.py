"""What phrases are read as: how answers are counted, and that the author's phrases are nobody's lesson."""

from __future__ import annotations

import yaml

from lexiseg.text.known import Vocabulary
from lexiseg.text.phrases import PhraseLibrary, Target, phrase_key
from read_phrases import HERE, answer, held_out
from recipe.wordings import load_targets


def test_four_answers() -> None:
    library = PhraseLibrary(targets=(Target(name="heart"), Target(name="lungs")))
    vocabulary = Vocabulary(library, hears={"prostate": ""}.get)
    asked = ("heart", "lungs", "prostate", "zorblax")
    assert [answer(vocabulary, each, "heart") for each in asked] == [
        "right", "another target", "none of the targets", "unknown",
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

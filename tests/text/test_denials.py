"""Denials and other languages, told by the text alone."""

from __future__ import annotations

import pytest

from lexiseg.errors import BadPhrase
from lexiseg.text.denials import is_denial, is_foreign
from lexiseg.text.known import advice, bundled_vocabulary
from lexiseg.text.phrases import MAX_LENGTH, check_phrase, default_library
from recipe.concepts import SYNONYMS
from recipe.wordings import load_frames, load_targets

KNOWN = bundled_vocabulary()
TARGETS = load_targets()


class TestDenials:
    @pytest.mark.parametrize(
        "phrase",
        [
            "no tumor", "No breast tumour", "breast without a mass", "absence of a breast mass", "not a tumor",
            "the scan is free of tumour", "tumor-free", "breast tumor is absent", "everything but the breast lesion",
            "there isn't a tumor", "lungs rather than heart", "outside the fetal head", "negative for glioma",
            "brain tumor was ruled out", "neither tumor nor cyst", "breast w/o mass", "no enhancing tumor",
            "no contrast-enhancing tumor", "without contrast enhanced lesions", "no contrast, no tumor",
            "no breast tumor without contrast",
        ],
    )  # fmt: skip
    def test_they_are_told(self, phrase: str) -> None:
        assert is_denial(phrase)
        assert not KNOWN.knows(phrase)

    @pytest.mark.parametrize("frame", [*load_frames().negative, *load_frames().negative_held_out])
    def test_frames_that_deny(self, frame: str) -> None:
        beside = ("around", "beyond", "next to", "away from", "the surroundings of")
        assert is_denial(frame.format("breast tumor")) != frame.startswith(beside)
        assert not KNOWN.knows(frame.format("breast tumor"))

    @pytest.mark.parametrize("text", [w for ways in SYNONYMS.values() for w in ways])
    def test_no_wording_that_was_taught_is_one(self, text: str) -> None:
        assert not is_denial(text)

    def test_no_wording_of_a_target_is_one(self) -> None:
        named = [w.text for t in TARGETS for w in t.wordings if w.kind == "target"]
        assert [text for text in named if is_denial(text)] == []

    @pytest.mark.parametrize(
        "phrase",
        [
            "brain tumor on an MRI without contrast", "lesion no. 2", "brain tumor with and without contrast",
            "normal heart", "a knotty mass", "nodule", "breast carcinoma, not otherwise specified",
            "brain tumor, no contrast", "no contrast brain tumor", "non contrast", "non-contrast", "No contrast",
            "brain tumor, non-contrast CT", "liver, no IV contrast", "brain tumor with no contrast enhancement",
            "brain tumor w/o contrast", "no gadolinium, brain tumor",
        ],
    )  # fmt: skip
    def test_what_looks_like_one(self, phrase: str) -> None:
        assert not is_denial(phrase)

    def test_the_line_names_the_target(self) -> None:
        assert advice("no breast tumor") == (
            "'no breast tumor' asks for what is not there, so nothing is drawn and that is no finding; "
            "ask for 'breast tumor' and read whether it is present or absent"
        )
        assert "ask for the target itself" in advice("not a zorblax")


class TestLanguages:
    @pytest.mark.parametrize(
        "phrase",
        ["опухоль мозга", "肺", "乳腺肿瘤", "ورم", "der Tumor in der Brust", "la tumeur du sein et les poumons"],
    )
    def test_other_languages_are_told(self, phrase: str) -> None:
        assert is_foreign(phrase)
        assert "not English" in advice(phrase) and "\n" not in advice(phrase)

    @pytest.mark.parametrize("phrase", ["neoplasma mammae", "lungs (both)", "os femoris", "β-cell mass", "5 µm nodule"])
    def test_latin_and_greek_letters_are_not(self, phrase: str) -> None:
        assert not is_foreign(phrase)

    def test_no_wording_of_a_target_is(self) -> None:
        named = [w for target in default_library().targets for w in target.known]
        named += [w.text for t in TARGETS for w in t.wordings if w.kind == "target"]
        assert [text for text in named if is_foreign(text)] == []


class TestLength:
    def test_a_novel_is_one_short_line(self) -> None:
        with pytest.raises(BadPhrase, match=r"has 10000 characters, expected at most 1000; name one target") as told:
            check_phrase("x" * 10_000)
        assert len(str(told.value)) < 150

    def test_the_longest_passes(self) -> None:
        assert len(check_phrase("x" * MAX_LENGTH)) == MAX_LENGTH

    @pytest.mark.parametrize("phrase", ["", "   ", "\n\t", "🫁", "🫁🫀 🧠", "42", "…"])
    def test_nothing_to_read_is_one_line(self, phrase: str) -> None:
        with pytest.raises(BadPhrase, match=r"is empty|has no letter"):
            check_phrase(phrase)

from __future__ import annotations

import pytest

from lexiseg.errors import BadPhrase
from lexiseg.text.phrases import PhraseLibrary, PhraseSet, Target, check_phrase, phrase_set

LIBRARY = PhraseLibrary(
    targets=(
        Target(
            name="breast tumor",
            synonyms=("breast mass",),
            variants=("breast carcinoma",),
            templates=("{} in ultrasound",),
            negatives=("normal breast",),
        ),
        Target(name="tumor", templates=("some {}",), negatives=("healthy",)),
    ),
    templates=("a scan of {}",),
    negatives=("background", "normal tissue"),
)


class TestCheck:
    @pytest.mark.parametrize("text", ["", "   ", "\n\t"])
    def test_empty(self, text: str) -> None:
        with pytest.raises(BadPhrase, match="empty"):
            check_phrase(text)

    @pytest.mark.parametrize("text", ["123", "!?", "— 4.5 %"])
    def test_no_letter(self, text: str) -> None:
        with pytest.raises(BadPhrase, match="no letter"):
            check_phrase(text)

    @pytest.mark.parametrize("text", ["lungs", "T2", "肺", "rate's {}"])
    def test_good(self, text: str) -> None:
        assert check_phrase(text) == text

    def test_spaces(self) -> None:
        assert check_phrase("  left \n  lung ") == "left lung"

    def test_phrase_set_checks(self) -> None:
        with pytest.raises(BadPhrase):
            phrase_set(" 12 ")

    def test_a_set_needs_a_wording(self) -> None:
        with pytest.raises(BadPhrase):
            PhraseSet("lungs", ())


class TestKnown:
    @pytest.mark.parametrize("text", ["breast tumor", "Breast  Tumour", " the BREAST-tumor. ", "breast tumour"])
    def test_spelling_does_not_matter(self, text: str) -> None:
        assert phrase_set(text, library=LIBRARY).wordings == ("breast tumor",)

    def test_keeps_what_was_typed_as_the_name(self) -> None:
        assert phrase_set("Breast  Tumour", library=LIBRARY).text == "Breast Tumour"

    def test_synonym_leads_and_brings_the_others(self) -> None:
        found = phrase_set("breast mass", ensemble=True, library=LIBRARY)
        assert found.wordings == ("breast mass", "breast mass in ultrasound", "breast tumor")

    def test_a_kind_is_asked_with_the_target_and_speaks_for_no_other_wording(self) -> None:
        found = phrase_set("breast carcinoma", ensemble=True, library=LIBRARY)
        assert found.wordings == (
            "breast carcinoma", "breast carcinoma in ultrasound", "breast tumor", "breast mass",
        )  # fmt: skip
        whole = phrase_set("breast tumor", ensemble=True, library=LIBRARY)
        assert whole.wordings == ("breast tumor", "breast tumor in ultrasound", "breast mass")
        longer = phrase_set("spiculated breast carcinoma", ensemble=True, library=LIBRARY)
        assert longer.wordings[1] == "spiculated breast carcinoma in ultrasound"

    def test_negatives_are_the_targets_then_the_generic(self) -> None:
        found = phrase_set("breast tumor", library=LIBRARY)
        assert found.negatives == ("normal breast", "background", "normal tissue")


class TestFreeText:
    def test_unknown_gets_generic_templates(self) -> None:
        found = phrase_set("spleen", ensemble=True, library=LIBRARY)
        assert found == PhraseSet("spleen", ("spleen", "a scan of spleen"), ("background", "normal tissue"))

    def test_longer_phrase_takes_the_most_specific_target(self) -> None:
        found = phrase_set("spiculated breast tumour", ensemble=True, library=LIBRARY)
        assert found.wordings == ("spiculated breast tumour", "spiculated breast tumour in ultrasound")
        assert found.negatives[0] == "normal breast"

    def test_part_of_a_word_is_no_match(self) -> None:
        assert phrase_set("pseudotumor", library=LIBRARY).negatives == LIBRARY.negatives

    @pytest.mark.parametrize("text", ["no tumor", "without breast tumor", "normal breast tumor bed"])
    def test_negation_is_not_the_target(self, text: str) -> None:
        assert phrase_set(text, library=LIBRARY).negatives == LIBRARY.negatives

    def test_a_phrase_is_not_its_own_negative(self) -> None:
        assert phrase_set("Normal tissue", library=LIBRARY).negatives == ("background",)

    def test_braces_are_harmless(self) -> None:
        assert "a scan of {x} lesion" in phrase_set("{x} lesion", ensemble=True, library=LIBRARY).wordings


class TestRegions:
    @pytest.mark.parametrize(
        ("text", "regions"),
        [
            ("lungs", 2),
            ("Lung fields", 2),
            ("hazy lungs", 2),
            ("lung nodule", 1),
            ("left lung", 1),
            ("no lungs", 1),
            ("breast tumor", 1),
            ("teapot", 1),
        ],
    )
    def test_a_target_of_several_parts_says_so(self, text: str, regions: int) -> None:
        assert phrase_set(text).regions == regions

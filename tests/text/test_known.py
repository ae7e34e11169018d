from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.errors import BadPhrase
from lexiseg.text.asking import without_frame
from lexiseg.text.known import Vocabulary, advice, bundled_vocabulary, refuse_several
from lexiseg.text.phrases import PhraseLibrary, Target, default_library, phrase_key, phrase_set
from recipe.concepts import ELSEWHERE, EVERYDAY, NORMAL, SYNONYMS
from recipe.wordings import load_targets

KNOWN = bundled_vocabulary()
WORDINGS = [wording for target in default_library().targets for wording in target.known]


class TestHears:
    """A text tower that was taught English is asked where the words are not listed."""

    LISTENING = Vocabulary(
        PhraseLibrary(targets=(Target(name="lungs"),)),
        hears={"organs that breathe": "lungs", "moderator band": ""}
        .get,
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("phrase", "known", "concept"),
        [
            ("lungs", True, "lungs"), ("organs that breathe", True, "lungs"), ("moderator band", True, None),
            ("zorblax", False, None), ("no lungs", False, None),
        ],
    )  # fmt: skip
    def test_what_it_says_counts(self, phrase: str, known: bool, concept: str | None) -> None:
        assert (self.LISTENING.knows(phrase), self.LISTENING.concept(phrase)) == (known, concept)

    def test_half_a_list_that_only_sounds_known_is_no_list(self) -> None:
        listening = Vocabulary(PhraseLibrary(targets=(Target(name="lungs"),)), hears={"left": ""}.get)
        assert listening.several("left and lungs") == ()
        refuse_several("left and lungs", listening)

    def test_words_of_another_language_are_not_played_to_it(self) -> None:
        deaf = Vocabulary(PhraseLibrary(), hears=pytest.fail)
        assert not deaf.knows("der Tumor in der Brust") and deaf.concept("опухоль мозга") is None


class TestWhatATargetLacks:
    """ "Spleen without laceration" asks for a spleen; "breast without a mass" asks for what is not there."""

    @pytest.mark.parametrize(
        ("phrase", "concept"),
        [
            ("spleen without laceration", "spleen"),
            ("Left kidney, without stones", "left kidney"),
            ("kidneys free of stones", "kidneys"),
            ("brain without a lesion", None),
            ("breast without a mass", None),
            ("chest without lungs", None),
            ("liver with no lesion", None),
            ("no spleen without laceration", None),
            ("spleen without liver", None),
        ],
    )
    def test_it_is_asked_for_all_the_same(self, phrase: str, concept: str | None) -> None:
        assert (KNOWN.knows(phrase), KNOWN.concept(phrase)) == (concept is not None, concept)
        assert KNOWN.reading(phrase) == concept

    def test_no_denial_of_the_recipe_is_taken_for_a_target(self) -> None:
        denials = [w.text for t in load_targets() for w in t.wordings if w.kind == "negation"]
        assert denials
        assert [text for text in denials if KNOWN.knows(text)] == []


class TestKnows:
    @pytest.mark.parametrize("phrase", [*WORDINGS, *(each for found in SYNONYMS.values() for each in found)])
    def test_all_that_the_encoder_was_taught(self, phrase: str) -> None:
        assert KNOWN.knows(phrase)
        assert not KNOWN.several(phrase)

    @pytest.mark.parametrize("phrase", [*ELSEWHERE, *NORMAL, *EVERYDAY])
    def test_nothing_else(self, phrase: str) -> None:
        assert KNOWN.knows(phrase) == (default_library().find(phrase) is not None)

    @pytest.mark.parametrize(
        "phrase",
        [
            "spiculated breast tumor", "hazy lungs", "Large breast tumour", "ill-defined breast lesion",
            "the left lung on a chest radiograph", "opaque left lung", "enlarged heart", "a high-grade glioma",
            "tumour in left breast", "tumor in brain",
            "brain tumor in a brain MRI", "fetal head in profile", "a medical scan showing lungs",
        ],
    )  # fmt: skip
    def test_qualifiers_make_no_other_target(self, phrase: str) -> None:
        assert KNOWN.knows(phrase)

    @pytest.mark.parametrize(
        "phrase",
        [
            "breats tumor", "nodule", "kidney valve", "lung tumor", "brain stem", "heart valve", "left heart",
            "left lung tumor", "no tumor", "normal heart", "breast implant", "tumor of the liver", "heart with lungs",
            "lungs and bladder", "left lungs", "lungs, left", "left", "the", "in a chest X-ray",
        ],
    )  # fmt: skip
    def test_other_words_do(self, phrase: str) -> None:
        assert not KNOWN.knows(phrase)

    @settings(deadline=None)
    @given(st.sampled_from(WORDINGS), st.sampled_from(sorted(KNOWN.qualifiers)), st.booleans())
    def test_a_qualifier_before_or_after_is_no_matter(self, wording: str, qualifier: str, before: bool) -> None:
        assert KNOWN.knows(f"{qualifier} {wording}" if before else f"{wording} {qualifier}")

    @settings(deadline=None)
    @given(st.sampled_from(WORDINGS), st.text(st.characters(categories=["Ll"]), min_size=1))
    def test_any_other_word_beside_it_makes_it_unknown(self, wording: str, word: str) -> None:
        phrase = f"{word} {wording}"
        taught = {each for key in map(phrase_key, (*WORDINGS, *KNOWN.phrases)) for each in key.split()}
        qualifying = {each for key in KNOWN.qualifiers | KNOWN.of_findings for each in key.split()}
        words = tuple(phrase_key(phrase).split())
        if not set(phrase_key(word).split()) <= taught | qualifying and without_frame(words) == words:
            assert not KNOWN.knows(phrase)

    def test_no_qualifier_is_a_side_or_a_negation(self) -> None:
        words = {word for each in KNOWN.qualifiers for word in each.split()}
        assert not words & {"left", "right", "no", "not", "without", "normal", "healthy", "absent", "lung", "heart"}

    def test_a_caption_of_a_thousand_words_takes_no_time(self) -> None:
        assert not KNOWN.knows("breast tumor " * 500)

    def test_the_list_has_no_phrase_twice_nor_one_of_the_library(self) -> None:
        keys = [phrase_key(each) for each in KNOWN.phrases]
        assert len(set(keys)) == len(keys)
        assert not set(keys) & {phrase_key(each) for each in WORDINGS}

    @pytest.mark.parametrize(
        ("phrase", "listed"),
        [
            ("malignant breast tumor", True),
            ("solid nodule of the thyroid", True),
            ("suspicious skin lesion", True),
            ("malignant kidney", False),
            ("cystic liver", False),
            ("calcified aorta", False),
        ],
    )
    def test_what_qualifies_a_finding_makes_one_of_an_organ(self, phrase: str, listed: bool) -> None:
        assert KNOWN.knows(phrase) == listed  # by words alone: a text tower may hear the kidney tumor

    def test_the_list_is_plain_data(self) -> None:
        source = Path(__file__).parents[2] / "src" / "lexiseg" / "bundled" / "known_phrases.yaml"
        assert set(yaml.safe_load(source.read_text())) == {"phrases", "qualifiers", "qualifiers_of_findings"}


class TestOrder:
    @pytest.mark.parametrize("phrase", ["lung, left", "Lung, Left", "lung left", "left lung", "the left lung"])
    def test_a_side_after_its_organ_is_understood(self, phrase: str) -> None:
        found = default_library().find(phrase)
        assert found is not None and found[0].name == "left lung"
        assert phrase_set(phrase).wordings == ("left lung",)

    def test_an_index_entry_is_understood(self) -> None:
        assert phrase_set("tumor, breast").wordings == ("breast tumor",)

    @pytest.mark.parametrize("phrase", ["left lungs", "lungs, left", "lungs left"])
    def test_one_side_of_both_is_not_both(self, phrase: str) -> None:
        assert default_library().find(phrase) is None


class TestSeveral:
    @pytest.mark.parametrize(
        ("phrase", "parts"),
        [
            ("heart and lungs", ("heart", "lungs")),
            ("lungs, heart", ("lungs", "heart")),
            ("lungs/heart", ("lungs", "heart")),
            ("the heart & the left lung", ("the heart", "the left lung")),
            ("Heart plus hazy lungs", ("Heart", "hazy lungs")),
        ],
    )
    def test_a_list_is_refused_with_how_to_ask(self, phrase: str, parts: tuple[str, ...]) -> None:
        assert KNOWN.several(phrase) == parts
        with pytest.raises(BadPhrase, match=f'names 2 targets; .*--text "{parts[0]}" --text "{parts[1]}"'):
            refuse_several(phrase, KNOWN)

    @pytest.mark.parametrize(
        "phrase", ["left and right lung", "cerebrum and cerebellum", "lung, left", "bladder and heart"]
    )
    def test_what_is_no_list_of_known_ones_passes(self, phrase: str) -> None:
        refuse_several(phrase, KNOWN)


class TestAdvice:
    @pytest.mark.parametrize(
        ("phrase", "nearest"),
        [("breats tumor", "breast tumor"), ("hart", "heart"), ("fetal haed", "fetal head"),
         ("lungs, left", "left lung"), ("nodule", "lung nodule"), ("heart valve", "heart"),
         ("left lung tumor", "left lung")],
    )  # fmt: skip
    def test_the_nearest_is_named_first(self, phrase: str, nearest: str) -> None:
        assert KNOWN.nearest(phrase)[0] == nearest
        assert f"{phrase!r} is unknown" in advice(phrase) and f"the nearest known: {nearest!r}" in advice(phrase)

    def test_where_none_is_near_it_says_what_lists_them(self) -> None:
        assert KNOWN.nearest("prostate") == ()
        assert f"{len(default_library().targets)} targets, which `lexiseg models describe` lists" in advice("prostate")
        assert "\n" not in advice("prostate")

    def test_a_vocabulary_of_ones_own(self) -> None:
        own = Vocabulary(PhraseLibrary(targets=(Target(name="spleen"),)), qualifiers=frozenset({"big"}))
        assert own.knows("big spleen") and not own.knows("small spleen")
        assert own.nearest("splene") == ("spleen",)

"""What a phrase asks for: words of asking, slips of the pen, names as programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.text.asking import as_words, spelt, without_frame
from lexiseg.text.known import Vocabulary, refuse_several
from lexiseg.text.phrases import PhraseLibrary, Target

TARGETS = ("heart", "brain", "left kidney", "right kidney", "lungs", "kidney tumor")
WORDS = frozenset(
    ["please", "contour", "the", "canal", "of", "my", "pump", "heart", "adrenal", "and", "kidney", "stones"]
)


def vocabulary(**heard: str) -> Vocabulary:
    """Targets by name, a text tower that hears what it is told, and some English."""
    library = PhraseLibrary(targets=tuple(Target(name=name) for name in TARGETS))
    return Vocabulary(library, english=WORDS, hears={k.replace("_", " "): v for k, v in heard.items()}.get)


class TestFrames:
    @pytest.mark.parametrize(
        ("asked", "target", "told"),
        [
            ("please contour the brain", "brain", None),
            ("ROI around the heart", "heart", None),
            ("Which part of the scan is the kidney tumour?", "kidney tumor", None),
            ("can you outline the left kidney in this scan please", "left kidney", None),
            ("label=heart", "heart", None),
            ("brain_mask", "brain", None),
            ("KidneyLeft", "left kidney", "left kidney"),
            ("kidney_r", "right kidney", "right kidney"),
            ("R kidney", "right kidney", "right kidney"),
        ],
    )
    def test_words_of_asking_do_not_change_what_is_asked(self, asked: str, target: str, told: str | None) -> None:
        # A sentence encoder hears the frame: without it the phrase is the target's own name, and needs no line.
        deceived = vocabulary(please_contour_the_brain="brain tumor")
        assert deceived.concept(asked) == target
        assert deceived.reading(asked) == told

    @pytest.mark.parametrize("asked", ["around the heart", "next to the heart", "everything but the heart", "no heart"])
    def test_what_lies_beside_is_not_the_target(self, asked: str) -> None:
        assert vocabulary().concept(asked) is None

    @pytest.mark.parametrize(
        "asked",
        ["NoTumor", "kidneyTumor-free please", "exclude the heart", "!heart", "heart w/o kidney tumors",
         "the heart should not be segmented", "everything apart from the heart", "please mask out the lungs"],
    )  # fmt: skip
    def test_what_is_not_wanted_is_not_asked(self, asked: str) -> None:
        hears = vocabulary(**{asked.replace(" ", "_"): "heart"})
        assert not hears.knows(asked) and hears.concept(asked) is None

    @pytest.mark.parametrize("asked", ["show me", "left", "R", "where is the"])
    def test_nothing_asked_for_is_nothing_known(self, asked: str) -> None:
        heard = Vocabulary(vocabulary().library, english=WORDS, hears=lambda _: "heart")
        assert not heard.knows(asked)

    @pytest.mark.parametrize(
        ("asked", "listed"),
        [
            ("heart & lungs", ("heart", "lungs")),
            ("heart as well as lungs please", ("heart", "lungs")),
            ("heart, heart please", ()),
        ],
    )
    def test_lists(self, asked: str, listed: tuple[str, ...]) -> None:
        assert vocabulary().several(asked) == listed

    def test_any_number_of_them_is_taken_off(self) -> None:
        assert without_frame(["a", "please"] * 250 + ["heart"]) == ("heart",)

    def test_a_frame_alone_stays(self) -> None:
        assert without_frame(["where", "is", "the"]) == ("where", "is", "the")

    def test_what_is_left_is_heard_where_the_whole_is_not(self) -> None:
        assert vocabulary(pump_of_my_blood="heart").concept("please mark the pump of my blood") == "heart"
        heard = vocabulary(pump="heart", mark_the_pump="lungs")
        assert heard.concept("mark the pump") == "lungs"  # as it stands, where that is understood

    def test_a_list_is_one_with_words_of_asking_too(self) -> None:
        assert vocabulary().several("please contour the heart and lungs") == ("heart", "lungs")
        with pytest.raises(Exception, match='--text "heart" --text "lungs"'):
            refuse_several("please contour the heart and lungs", vocabulary())


class TestSlips:
    @pytest.mark.parametrize("slip", ["haert", "hearrt", "hert", "hezrt"])
    def test_one_slip_is_mended(self, slip: str) -> None:
        assert vocabulary().concept(slip) == vocabulary().reading(slip) == "heart"

    def test_a_side_is_mended_too(self) -> None:
        assert vocabulary().concept("rihgt kidney") == "right kidney"

    @pytest.mark.parametrize(
        "word",
        ["canal", "adrenal", "zorblax", "hearts", "heartx", "xheart", "haeret", "hrt"],
        ids=lambda word: word,
    )
    def test_other_words_stay(self, word: str) -> None:
        assert spelt([word], {"heart", "renal", "caval"}, WORDS) == (word,)

    def test_what_may_be_a_slip_of_two_words_stays(self) -> None:
        assert spelt(["bxne"], {"bone", "bane"}, frozenset()) == ("bxne",)

    def test_nothing_is_mended_where_nobody_says_what_english_is(self) -> None:
        assert not Vocabulary(PhraseLibrary(targets=(Target(name="heart"),))).knows("haert")

    @given(st.text(max_size=30))
    def test_any_text_has_an_answer(self, text: str) -> None:
        words = text.split()
        assert len(spelt(words, {"heart", "lungs"}, WORDS)) == len(words)
        assert set(without_frame(words)) <= set(words)
        assert as_words(as_words(text)) == as_words(text)

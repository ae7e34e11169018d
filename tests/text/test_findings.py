"""What is in, of or beside an organ is not the organ; what is said of an organ leaves it one."""

from __future__ import annotations

import pytest

from lexiseg.text.findings import FINDINGS, is_beside, is_finding, what_is_said
from lexiseg.text.known import Vocabulary
from lexiseg.text.phrases import PhraseLibrary, Target, default_library, phrase_key

NAMES = ("liver", "spleen", "kidneys", "left kidney", "pancreas", "heart", "femur", "breast tumor", "ulcer")


def hears_the_organ(text: str) -> str | None:
    """As a sentence encoder does: whatever stands beside it."""
    spoken = phrase_key(text)
    nouns = {"hepat": "liver", "splenic": "spleen", "renal": "kidneys", "kidney": "kidneys", "breast": "breast tumor"}
    return next((name for word, name in nouns.items() if word in spoken), None) or next(
        (name for name in NAMES if name in spoken), None
    )


HEARD = Vocabulary(
    PhraseLibrary(targets=tuple(Target(name=name) for name in NAMES)),
    hears=hears_the_organ,
    english=frozenset({"the", "liver", "spleen", "please", "mark"}),
)


class TestWhatIsBeside:
    @pytest.mark.parametrize(
        "phrase",
        [
            "spleen abscess", "spleen absess", "liver_laceration", "hepatic artery", "kidney stent",
            "fluid around the liver", "tail of the pancreas", "food inside the liver", "stones in the kidney",
            "please mark the hilum of the spleen", "hepatitis", "splenectomy of the spleen", "breast hematoma",
            "breast abscess", "renal pelvis wall",
        ],
    )  # fmt: skip
    def test_it_is_not_drawn_as_the_organ(self, phrase: str) -> None:
        assert HEARD.concept(phrase) is None
        assert HEARD.reading(phrase) == ""

    @pytest.mark.parametrize(
        ("phrase", "concept"),
        [
            ("spleen with an abscess", "spleen"),
            ("Liver in a patient with hepatitis", "liver"),
            ("the whole liver including the cyst", "liver"),
            ("outline of the hepatic contour", "liver"),
            ("CT of the liver tissue", "liver"),
            ("the liver above the stent", "liver"),
            ("bones of the femur", "femur"),
            ("breast mass", "breast tumor"),
            ("bleeding breast lesion", "breast tumor"),
            ("bleeding breast tumor", "breast tumor"),
            ("infected ulcer wound", "ulcer"),
            ("head, body and tail of the pancreas", "pancreas"),
            ("heart of a patient with heart failure", "heart"),
        ],
    )
    def test_what_is_said_of_it_leaves_an_organ_one(self, phrase: str, concept: str) -> None:
        assert HEARD.concept(phrase) == concept

    def test_a_lesion_with_something_is_no_lesion_alone(self) -> None:
        words = Vocabulary(
            PhraseLibrary(targets=(Target(name="lesion"), Target(name="liver"))), hears={"lesion with a rim": "x"}.get
        )
        assert words.concept("lesion with a rim") == "x" and words.concept("liver with a rim") == "liver"


class TestLists:
    def test_a_targets_own_name_is_never_beside_it(self) -> None:
        known = [(target.name, wording) for target in default_library().targets for wording in target.known]
        assert [pair for pair in known if is_beside(phrase_key(pair[1]).split(), pair[0])] == []

    @pytest.mark.parametrize("target", ["breast tumor", "ulcer", "COVID-19 infection", "polyp", "thyroid nodule"])
    def test_findings_are_told_by_their_names(self, target: str) -> None:
        assert is_finding(target) and not is_finding("liver")

    def test_a_side_is_an_organ_too(self) -> None:
        assert is_beside(["pulmonary", "abscess"], "left lung") and not is_beside(["pulmonary"], "left lung")

    def test_they_are_in_one_spelling(self) -> None:
        assert {word for word in FINDINGS if phrase_key(word) != word} == set()

    def test_a_long_description_is_left_to_who_hears_it(self) -> None:
        text = "the big soft organ of the body below the lungs where stones of the liver form"
        assert not is_beside(phrase_key(text).split(), "liver")

    def test_said_of_nothing_is_nothing_said(self) -> None:
        assert what_is_said("with contrast") == ("with contrast", "")

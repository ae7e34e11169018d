"""Codes of phrases: each is one of DICOM's own dictionary."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import yaml
from pydicom.sr.codedict import codes

from lexiseg.io.dicom.codes import PRIVATE_SCHEME, codes_of


def table() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(resources.files("lexiseg.io.dicom").joinpath("codes.yaml").read_text())
    return found


def all_codes() -> list[list[str]]:
    given = table()
    entries = given["entries"]
    return [
        *given["categories"].values(),
        *given["sides"].values(),
        *(entry[key] for entry in entries for key in ("type", "region") if key in entry),
    ]


def test_every_code_is_in_the_dictionary_with_its_meaning() -> None:
    known = {(code.value, code.meaning) for code in (getattr(codes.SCT, name) for name in codes.SCT.dir())}
    assert {(value, meaning) for value, meaning in all_codes()} <= known


def test_no_phrase_is_there_twice_and_all_are_as_they_are_looked_for() -> None:
    phrases = [phrase for entry in table()["entries"] for phrase in entry["phrases"]]
    assert len(phrases) == len(set(phrases))
    assert phrases == [" ".join(phrase.casefold().split()) for phrase in phrases]


def test_the_bundled_targets_have_codes_but_for_the_fetal_head() -> None:
    """SNOMED CT's head is the patient's own, and the patient is the mother."""
    targets = ("breast tumor", "brain tumor", "brain", "lungs", "left lung", "right lung", "heart")
    assert all(codes_of(target).type.scheme == "SCT" for target in targets)
    assert codes_of("fetal head").type.scheme == PRIVATE_SCHEME


@pytest.mark.parametrize("phrase", ["Left  LUNG", " left lung "])
def test_case_and_blanks_do_not_count(phrase: str) -> None:
    assert codes_of(phrase) == codes_of("left lung")
    assert codes_of(phrase).side is not None


def test_a_private_code_is_short_and_of_the_phrase_alone() -> None:
    code = codes_of("a very long phrase " * 9).type
    assert len(code.value) <= 16 and len(code.meaning) <= 64
    assert code != codes_of("another").type
    assert codes_of("A Wire").type.value == codes_of("a wire").type.value

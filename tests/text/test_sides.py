"""Which phrases ask for one side of the body."""

from __future__ import annotations

import pytest

from lexiseg.text.sides import names_one_side


@pytest.mark.parametrize("text", ["left lung", "Right KIDNEY", "kidney, right", "left breast mass", "rt kidney"])
def test_one_side(text: str) -> None:
    assert names_one_side(text)


@pytest.mark.parametrize(
    "text", ["lungs", "left and right kidney", "right ventricle", "left atrial appendage", "bright spot", "upright", ""]
)
def test_none_or_both_or_a_chamber_of_the_heart(text: str) -> None:
    assert not names_one_side(text)

"""What a phrase is called in SNOMED CT, for DICOM objects that want a code and not words alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

PRIVATE_SCHEME = "99LEXISEG"
"""The scheme of codes that we make of phrases without an entry; its name begins with 99, as PS3.16 8.2 asks."""

_LONGEST_MEANING = 64


class Code(NamedTuple):
    """A coded concept: value, coding scheme and meaning, as in PS3.3 8.8."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SegmentCodes:
    """The codes of one phrase.

    Attributes:
        category: what kind of thing it is.
        type: what it is.
        region: the organ that it lies in; None where the type says it, or nobody knows.
        side: "Left" or "Right" of the patient; None where both or none.
    """

    category: Code
    type: Code
    region: Code | None = None
    side: Code | None = None


def codes_of(phrase: str) -> SegmentCodes:
    """The codes of a phrase: SNOMED CT's where the table has it, else a private one with the phrase as its meaning.

    A private code's value is a digest of the phrase, so that equal phrases have equal codes everywhere.

    Example:
        >>> codes_of("left lung").type.value
        '39607008'
        >>> codes_of("wire").type.scheme
        '99LEXISEG'
    """
    words = " ".join(phrase.casefold().split())
    found = _table().get(words)
    if found is not None:
        return found
    value = hashlib.sha256(words.encode()).hexdigest()[:12].upper()
    own = Code(value, PRIVATE_SCHEME, " ".join(phrase.split())[:_LONGEST_MEANING])
    return SegmentCodes(Code("TARGET", PRIVATE_SCHEME, "Target of a text prompt"), own)


@cache
def _table() -> Mapping[str, SegmentCodes]:
    import yaml

    text = resources.files("lexiseg.io.dicom").joinpath("codes.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    found: dict[str, SegmentCodes] = {}
    for entry in table["entries"]:
        codes = SegmentCodes(
            category=_sct(table["categories"][entry["category"]]),
            type=_sct(entry["type"]),
            region=_sct(entry["region"]) if "region" in entry else None,
            side=_sct(table["sides"][entry["side"]]) if "side" in entry else None,
        )
        found.update(dict.fromkeys(entry["phrases"], codes))
    return found


def _sct(written: list[str]) -> Code:
    return Code(written[0], "SCT", written[1])

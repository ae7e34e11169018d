"""Phrases of something in, of or beside an organ, which is not the organ: "spleen abscess", "hepatic artery".

A sentence encoder hears the organ loudest, and takes "kidney stent" for the kidneys. So words decide, by the lists of
``findings.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources

import yaml

from lexiseg.text.phrases import FINDINGS_FILE, phrase_key

_IN = "of|in|inside|within|on|at|from|through|crossing"
_WHOLE_IN_PARTS = frozenset({"head", "neck", "body", "tail", "shaft"})
"""Parts that are listed where the whole is meant."""
_NEXT_TO = "above|adjacent to|anterior to|around|behind|below|beneath|beside|close to|near|next to|surrounding|under"
_SAID = re.compile(
    r"(.+?),? ((?:with|without|free of|negative for|showing|including|affected by|damaged by|after|before|despite"
    r"|due to|(?:of|in|from) (?:an? |my |the |this )?(?:\w+ )?"
    r"(?:patient|person|man|woman|child|adult|smoker|donor|survivor)s?)\b.*)",
    re.IGNORECASE,
)
"""What is said of the organ that is asked for, or of whom it is."""
_LONGEST = 4
"""Words of a phrase that is read here, without those of `_PLAIN`; a longer one describes."""
_PLAIN = frozenset({"a", "an", "the", "of", "in", "on", "at", "to", "my", "his", "her", "their", "our"})

_DISEASE = re.compile(
    r"(?!diagnosis|prognosis)\w{2,}(?:itis|osis|opathy|iasis|emia|ectomy|ostomy|plasty|ectas(?:is|ia)|malacia|rrhage"
    r"|plasia|trophy|lysis|lithiasis)"
)
"""How Greek names of diseases and of operations end."""
_LISTS = yaml.safe_load((resources.files("lexiseg.text") / FINDINGS_FILE).read_text(encoding="utf-8"))
_GROWTHS = frozenset(_LISTS["growths"].split())
_GENERIC = frozenset(_LISTS["generic"].split())
_DISEASES = frozenset(_LISTS["diseases"].split())
_PARTS = frozenset(_LISTS["parts"].split())
_DEVICES = frozenset(_LISTS["devices"].split())
_WHOLE = frozenset(_LISTS["whole"].split())
FINDINGS = _GROWTHS | _GENERIC | _DISEASES | _PARTS | _DEVICES
"""Words of findings, parts and devices, in American spelling."""
_NOUNS: dict[str, list[str]] = _LISTS["organs"]
_SAME: dict[str, list[str]] = _LISTS["same"]


def what_is_said(text: str) -> tuple[str, str]:
    """What a phrase asks for, and what it says of that or of a patient; "" where it says nothing.

    Examples:
        >>> what_is_said("Liver with cirrhosis")
        ('Liver', 'with cirrhosis')
        >>> what_is_said("liver")
        ('liver', '')
    """
    found = _SAID.fullmatch(text.strip())
    return (found[1], found[2]) if found else (text, "")


def is_finding(concept: str) -> bool:
    """Whether a target is a finding, and no organ: a tumor, an ulcer, an edema.

    Examples:
        >>> is_finding("thyroid nodule"), is_finding("thyroid")
        (True, False)
    """
    return bool((_GROWTHS | _DISEASES) & {*phrase_key(concept).split()})


def is_beside(words: Sequence[str], concept: str) -> bool:
    """Whether a phrase that sounds like a target names something in, of or beside it.

    That is a phrase of a few words that names the target's organ and a finding, a part, a device or a place beside it,
    or a growth's place and a disease or a device.  What is said of a patient, or of the organ itself ("liver with
    abscess", "lung above the spleen"), does not count.

    Args:
        words: of the phrase, as its key has them, with slips mended.
        concept: the target that it sounds like.

    Examples:
        >>> is_beside("spleen abscess".split(), "spleen"), is_beside("spleen with an abscess".split(), "spleen")
        (True, False)
        >>> is_beside("breast hematoma".split(), "breast tumor"), is_beside("breast mass".split(), "breast tumor")
        (True, False)
        >>> is_beside("fluid around the liver".split(), "liver"), is_beside("tail of the pancreas".split(), "pancreas")
        (True, True)
    """
    text, _ = what_is_said(" ".join(words))
    named = {*phrase_key(concept).split()}
    if named & _GROWTHS:
        return _beside_growth(text, named)
    return concept in _NOUNS and _beside_organ(text, concept)


def _beside_growth(text: str, named: set[str]) -> bool:
    """Whether a phrase that sounds like a growth names something else in the same place: no growth's word is there."""
    said = {*text.split()} - named
    first, *rest = re.split(rf"\b(?:{_IN})\b", text, maxsplit=1)
    part = bool(rest) and bool({*first.split()[-1:]} & _PARTS)
    grown = {*text.split()} & _GROWTHS
    return not grown and not _is_long(text) and bool(_diseases(said) or said & _DEVICES or part)


def _beside_organ(text: str, concept: str) -> bool:
    """Whether a phrase that sounds like an organ names something in, of or beside it."""
    organ = re.search(rf"\b(?:{'|'.join(_NOUNS[concept])})\b", text)
    if organ is None:
        return bool(_diseases({*text.split()})) and not _is_long(text)
    before, after = text[: organ.start()], re.split(rf"\b(?:{_NEXT_TO})\b", text[organ.end() :])[0]
    said, same = {*before.split(), *after.split()}, frozenset(_SAME.get(concept, ()))
    if _is_long(before + after) or len(said & _WHOLE_IN_PARTS) > 1:  # "head, body and tail"
        return False
    inside = re.fullmatch(rf"(.*)\b(?:{_IN}|{_NEXT_TO})\b.*", before)
    other = inside is not None and not {*inside[1].split()} <= _WHOLE | _PLAIN | same
    return other or bool((_diseases(said) | FINDINGS & said) - same)


def _diseases(said: set[str]) -> set[str]:
    return {word for word in said if word in _DISEASES or _DISEASE.fullmatch(word)}


def _is_long(text: str) -> bool:
    """Whether there are so many words that they describe, rather than name."""
    return len([word for word in text.split() if word not in _PLAIN]) > _LONGEST

"""What a phrase is before any model reads it: a denial, or no English.

Text towers hardly read "no": "no tumor" lies beside "tumor". So words decide, by a list that can be read here.
"""

from __future__ import annotations

import re
import unicodedata

from lexiseg.text.asking import as_words
from lexiseg.text.phrases import phrase_key

_WORDS = frozenset({
    "no", "not", "without", "absent", "absence", "lacking", "lacks", "lack", "excluding", "excludes", "except",
    "minus", "neither", "nor", "none", "never", "isn't", "aren't", "cannot", "can't", "doesn't", "don't", "nothing",
})  # fmt: skip
_SEVERAL_WORDS = re.compile(
    r"\b(?:free of|negative for|ruled out|rule out|been excluded|is excluded|anything but|everything but|all but"
    r"|other than|outside(?: of)?(?: the)?|rather than|instead of|leave out|but exclude"
    r"|(?:everything|all|anything) (?:besides|apart from|save))\b"
    r"|\bfree$|\bnon tumor\b|^(?:please )?(?:exclude|remove|subtract|hide|erase|delete|ignore|skip|(?:mask|crop) out)\b"
    r"|\bshould not be (?:segmented|drawn|marked|masked|included|outlined)\b"
)
_SIGNS = re.compile(r"^\s*[-\u2212\u2013!~\u00ac\u274c\U0001f6ab]|\w-(?:free|less)\b", re.IGNORECASE)
"""What says no without a word: a sign before the phrase, "tumor-free"."""
_SHORT = re.compile(r"\bw/o\b", re.IGNORECASE)
_HARMLESS = re.compile(
    r"\bno (?=\d)"  # lesion no. 2
    r"|\bwith (?:and|or) without (?:\w+ )?(?:contrast|gadolinium|enhancement|fat)\b"
    # A scan of "no contrast" was made without an agent; "no contrast-enhancing tumor" asks for no such tumor.
    r"|\b(?:no|without) (?:iv |intravenous |any )?"
    r"(?:contrast|gadolinium|enhancement|fat suppression|fat saturation)\b(?! enhanc(?:ing|ed)\b)"
    r"|\bnot otherwise specified\b|\bno special type\b|\bnot the other\b|\bwithout (?:the )?skull\b"
    r"|\b(?:should|does|did|will|would) not (?:be(?! (?:segmented|drawn|marked|masked|included|outlined))"
    r"|belong|heal|go|close)\b"
)
_OTHER_LANGUAGES = frozenset({
    "der", "die", "das", "und", "mit", "ohne", "eine", "einer", "im", "zum",
    "le", "les", "du", "des", "avec", "sans", "une", "dans",
    "el", "los", "las", "del", "con", "sin", "una", "della", "delle", "dello", "il", "gli", "nel",
    "het", "een", "zonder", "med", "utan", "och", "uten",
})  # fmt: skip
"""Words of grammar of languages in Latin letters: some are English too, two of them in one phrase hardly."""


def is_denial(text: str) -> bool:
    """Whether a phrase asks for what is not there: "no tumor", "breast without a mass", "tumor-free".

    A scan "without contrast" or of "no contrast" and "lesion no. 2" deny nothing. "normal" and "healthy" are not
    denials: they say how something looks.

    Examples:
        >>> is_denial("no evidence of a brain tumour")
        True
        >>> is_denial("brain tumor on an MRI without contrast")
        False
    """
    text = _SHORT.sub("without", as_words(text))
    key = _HARMLESS.sub(" ", phrase_key(text))
    return bool(_SIGNS.search(text)) or bool(_WORDS & set(key.split()) or _SEVERAL_WORDS.search(key.strip()))


def is_foreign(text: str) -> bool:
    """Whether a phrase is surely not in English: most letters of another script, or two other words of grammar.

    Latin names and most single words of a language in Latin letters pass: they cannot be told from rare English.

    Examples:
        >>> is_foreign("опухоль мозга")
        True
        >>> is_foreign("der Tumor in der Brust")
        True
        >>> is_foreign("neoplasma mammae")
        False
    """
    letters = [c for c in text if c.isalpha()]
    strange = sum(not unicodedata.name(c, "").startswith(("LATIN", "GREEK SMALL LETTER MU", "MICRO")) for c in letters)
    if 2 * strange > len(letters):
        return True
    return sum(word in _OTHER_LANGUAGES for word in phrase_key(text).split()) > 1

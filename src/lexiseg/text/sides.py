"""Whether a phrase names a side: of anything, so that a mirrored scan has another answer, or of the body."""

from __future__ import annotations

import re

from lexiseg.text.asking import as_words

SHORT_SIDES = {"l": "left", "r": "right", "lt": "left", "rt": "right"}
"""What left and right are written as in English reports."""

_WORDS = frozenset({
    *SHORT_SIDES, "ipsilateral", "contralateral", "homolateral", "li", "re", "sin", "dx", "sx", "od", "os",
    # Latin, German, Dutch, and the languages of the north
    "sinister", "sinistra", "sinistrum", "dexter", "dextra", "dextrum", "links", "rechts", "linker", "rechter",
    "rechte", "rechtes", "rechten", "rechtem", "linke", "linkes", "linken", "linkem", "vänster", "höger", "vänstra",
    "högra", "venstre", "høyre", "højre",
    # French, Spanish, Portuguese, Italian
    "gauche", "gauches", "droit", "droite", "droits", "droites", "izquierdo", "izquierda", "izquierdos", "izquierdas",
    "derecho", "derecha", "derechos", "derechas", "esquerdo", "esquerda", "esquerdos", "esquerdas", "direito",
    "direita", "direitos", "direitas", "sinistro", "sinistri", "sinistre", "destro", "destra", "destri", "destre",
    # chambers and vessels of the heart, lobes of the lungs, kidneys, quarters of the abdomen
    "lv", "rv", "la", "ra", "laa", "raa", "lvot", "rvot", "lvm", "rvm", "lvendo", "rvendo", "lvepi", "rvepi", "lvmyo",
    "rvmyo", "lad", "lcx", "lca", "rca", "lma", "lpa", "rpa", "lica", "rica", "lcca", "rcca", "lul", "lll", "rul",
    "rml", "rll", "lk", "rk", "luq", "llq", "ruq", "rlq",
})  # fmt: skip
"""One too many costs a training its mirrored scans; one too few teaches the other side."""
_HEART = frozenset({"heart", "cardiac", "ventricle", "ventricular", "atrium", "atrial", "myocardium", "myocardial"})
_BRAIN = frozenset({"lateral", "brain", "cerebral"})


def names_a_side(phrase: str) -> bool:
    """Whether a phrase says left or right, in full, for short, or within another word.

    Examples:
        >>> names_a_side("LeftLung"), names_a_side("lung (L)"), names_a_side("LV"), names_a_side("linke Lunge")
        (True, True, True, True)
        >>> names_a_side("bright lesion"), names_a_side("L5")
        (False, False)
    """
    return any(word in _WORDS or word.startswith(("left", "right")) for word in _words(phrase))


def names_one_side(phrase: str) -> bool:
    """Whether a phrase asks, in plain words, for what lies on one side of the body.

    Both sides together are none. The chambers of the heart are called left and right, and lie in the middle.

    Examples:
        >>> names_one_side("Lung, left"), names_one_side("left and right lung"), names_one_side("right ventricle")
        (True, False, False)
        >>> names_one_side("left lateral ventricle"), names_one_side("L spine"), names_one_side("rt breast tumor")
        (True, False, True)
    """
    words = _words(phrase)
    chamber = not _HEART.isdisjoint(words) and _BRAIN.isdisjoint(words)
    left, right = (any(word.startswith(side) or word == short for word in words)
                   for side, short in (("left", "lt"), ("right", "rt")))  # fmt: skip
    return left != right and not chamber


def _words(phrase: str) -> list[str]:
    return re.findall(r"[^\W_]+", as_words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", phrase)).casefold())

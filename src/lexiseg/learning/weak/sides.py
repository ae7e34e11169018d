"""Does a phrase name a side of the body?"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SIDES = frozenset({"left", "right", "ipsilateral", "contralateral", "lefthand", "righthand"})


def names_a_side(phrases: Iterable[str]) -> bool:
    """True where a phrase says left or right, so that a mirrored scan would have another answer."""
    return any(_SIDES & set(re.findall(r"[a-z]+", phrase.casefold())) for phrase in phrases)

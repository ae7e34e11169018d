"""An image and the sentence that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lexiseg.errors import BadManifest

Part = Literal["train", "val", "test", ""]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One image and one caption of it.

    Attributes:
        image: the file; whether it can be read is left to reading it.
        text: the caption, on one line.
        group: the patient, article or case that a split keeps together.
        part: of the data set's own split; "" where it has none.
    """

    image: Path
    text: str
    group: str
    part: Part = ""


@dataclass(frozen=True)
class SkippedPair:
    """A row that could not be used.

    Attributes:
        where: the line of a table, or the name that the data set gives the image.
        reason: why, on one line, without the caption.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class PairSet:
    """Pairs with what was left out.

    Attributes:
        pairs: those that can be used, in the order of the data set.
        skipped: the others.
    """

    pairs: tuple[Pair, ...]
    skipped: tuple[SkippedPair, ...] = ()


def checked(
    found: Iterable[tuple[str, Pair | str]], *, min_caption: int, seen: set[Path] | None = None
) -> PairSet:
    """Tell what can be used from what cannot.

    Args:
        found: where a pair was found, and the pair or why there is none.
        min_caption: characters that a caption must have.
        seen: the images that exist, where a listing is cheaper than asking for each; None asks.

    Raises:
        BadManifest: fewer than two pairs can be used.
    """
    pairs, skipped = [], []
    for where, each in found:
        problem = each if isinstance(each, str) else _problem(each, min_caption, seen)
        if problem or isinstance(each, str):
            skipped.append(SkippedPair(where, problem))
        else:
            pairs.append(each)
    if len(pairs) < 2:
        first = f"; {skipped[0].where}: {skipped[0].reason}" if skipped else ""
        count = "1 pair" if len(pairs) == 1 else "no pair"
        raise BadManifest(f"{count} can be used, expected at least 2 ({len(skipped)} left out{first})")
    return PairSet(tuple(pairs), tuple(skipped))


def _problem(pair: Pair, min_caption: int, seen: set[Path] | None) -> str:
    if not pair.text:
        return "the caption is empty"
    if len(pair.text) < min_caption:
        return f"the caption has {len(pair.text)} characters, expected at least {min_caption}"
    if not (pair.image.is_file() if seen is None else pair.image in seen):
        return f"there is no image {pair.image.name}"
    return ""


def one_line(text: object) -> str:
    """A caption as a data set has it, with single blanks; "" for what is no text."""
    return " ".join(text.split()) if isinstance(text, str) else ""

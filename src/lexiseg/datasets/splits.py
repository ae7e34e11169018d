"""Parts of a data set, by patient."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from lexiseg.datasets.columns import plain_name
from lexiseg.errors import UsageError
from lexiseg.io.names import printable

logger = logging.getLogger(__name__)

Part = Literal["train", "val", "test", ""]

_PARTS: Mapping[Part, tuple[str, ...]] = {
    "": ("",),
    "train": ("train", "training", "trainset", "trainingset"),
    "val": ("val", "valid", "validation", "validationset", "valset", "dev", "development", "devset"),
    "test": ("test", "testing", "tests", "testset", "testingset", "holdout", "heldout"),
}
"""What a column split may say, as `plain_name` writes it; the first is ours."""


def part_named(word: str) -> Part | None:
    """The part that a cell of a column split means; "" of an empty one, None of one that means none.

    Example:
        >>> part_named("Testing"), part_named("dev"), part_named("left")
        ('test', 'val', None)
    """
    plain = plain_name(word)
    return next((part for part, words in _PARTS.items() if plain in words), None)


_NAMES = {2: ("train", "test"), 3: ("train", "val", "test")}


def parse_shares(text: str) -> dict[str, float]:
    """Read "70/15/15" as shares of train, val and test, or "80/20" of train and test; they add up to 1.

    Raises:
        UsageError: these are not two or three numbers of at least 0.
    """
    try:
        numbers = [float(part) for part in text.split("/")]
    except ValueError:
        numbers = []
    total = sum(numbers)
    if len(numbers) not in _NAMES or not math.isfinite(total) or min(numbers) < 0 or total <= 0:
        raise UsageError(f"the split {printable(text[:40])!r} cannot be read; expected such as 70/15/15 or 80/20")
    return {name: number / total for name, number in zip(_NAMES[len(numbers)], numbers, strict=True)}


def split_by_group(groups: Sequence[str], shares: dict[str, float], *, seed: int = 0) -> list[str]:
    """Put scans into parts so that all of a group are in one.

    Groups are ordered by SHA-256 of the seed and their name, which no machine and no order of the scans
    changes, and cut where the shares of the scans say: a group goes where its middle scan falls. Parts are
    thus within half a group of their share.

    Args:
        groups: the group of each scan; scans that stand alone have one of their own.
        shares: each part's name and share, which add up to 1.
        seed: another order.

    Returns:
        The part of each scan, in the order of `groups`.
    """
    sizes = Counter(groups)
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode()).digest())
    parts: dict[str, str] = {}
    done = 0
    for group in order:
        parts[group] = _part_at((done + sizes[group] / 2) / len(groups), shares)
        done += sizes[group]
    return [parts[group] for group in groups]


def tell_torn(scans: Iterable[tuple[str, str]]) -> None:
    """A warning where a data set's own split has a group in two parts.

    Args:
        scans: group and part of each; where either is "", it says nothing.
    """
    parts: dict[str, set[str]] = {}
    for group, part in scans:
        if group and part:
            parts.setdefault(group, set()).add(part)
    torn = [group for group, each in parts.items() if len(each) > 1]
    if torn:
        logger.warning(
            "the column split has scans of %d of %d groups in two parts: what is held out is no stranger's",
            len(torn), len(parts),
        )  # fmt: skip


def _part_at(place: float, shares: dict[str, float]) -> str:
    edge = 0.0
    filled = [(name, share) for name, share in shares.items() if share > 0]
    for name, share in filled:
        edge += share
        if place < edge:
            return name
    return filled[-1][0]

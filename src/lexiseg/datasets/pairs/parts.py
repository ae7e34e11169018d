"""Pairs to train on, and pairs to validate with."""

from __future__ import annotations

from collections.abc import Sequence

from lexiseg.datasets.pairs.pair import Pair
from lexiseg.datasets.splits import split_by_group
from lexiseg.errors import UsageError


def split_pairs(
    pairs: Sequence[Pair], *, validation: float = 0.15, seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs; a group is never in both.

    The data set's own split counts where it has one: its test pairs are in neither part, and its validation
    pairs are the validation part.  What says nothing of the kind is split by group.

    Args:
        pairs: all of them.
        validation: share of the pairs to validate with; the paper has 0.15.
        seed: another split.

    Raises:
        UsageError: a share that is none, or a part with fewer than two pairs.
    """
    if not 0 < validation < 1:
        raise UsageError(f"the validation share is {validation}; expected more than 0 and less than 1")
    own = [pair for pair in pairs if pair.part == "val"]
    rest = [pair for pair in pairs if pair.part not in ("val", "test")]
    if own:
        train = rest
    elif not rest:
        train = []
    else:
        shares = {"train": 1 - validation, "val": validation}
        names = split_by_group([pair.group for pair in rest], shares, seed=seed)
        train = [pair for pair, name in zip(rest, names, strict=True) if name == "train"]
        own = [pair for pair, name in zip(rest, names, strict=True) if name == "val"]
    if min(len(train), len(own)) < 2:
        groups = len({pair.group for pair in pairs})
        raise UsageError(
            f"{len(train)} pairs would train and {len(own)} validate, expected at least 2 each; "
            f"there are {len(pairs)} pairs of {groups} groups"
        )
    return train, own

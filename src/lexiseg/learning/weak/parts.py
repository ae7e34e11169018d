"""Which scans are trained on, and which say when to stop."""

from __future__ import annotations

from collections.abc import Sequence

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.datasets.splits import split_by_group

TRAIN, VALIDATION, TEST = "train", "val", "test"


def parts_of(rows: Sequence[ManifestRow], *, validation: float, seed: int) -> list[str]:
    """Each row's part: "train", "val" or "test".

    The column split decides, where a row has one of these words in it. Others are split by group, so that
    all scans of a patient are in one part; a scan without a group is one of its own. Where there are two
    groups or more, one at least is in each of "train" and "val".

    Args:
        rows: of a manifest.
        validation: share of the scans without a word of their own that go to "val".
        seed: of the split.
    """
    given = [row.extra.get("split", "").casefold() for row in rows]
    given = [VALIDATION if word in ("val", "valid", "validation") else word for word in given]
    known = [word if word in (TRAIN, VALIDATION, TEST) else "" for word in given]
    groups = [f"group {row.group}" if row.group else f"scan {row.id}" for row in rows]
    free = [k for k, word in enumerate(known) if not word]
    drawn = split_by_group(
        [groups[k] for k in free], {TRAIN: 1 - validation, VALIDATION: validation}, seed=seed
    )
    for k, part in zip(free, drawn, strict=True):
        known[k] = part
    return _never_empty(known, groups, free) if validation > 0 else known


def _never_empty(parts: list[str], groups: Sequence[str], free: Sequence[int]) -> list[str]:
    names = sorted({groups[k] for k in free})
    for wanted, other in ((TRAIN, VALIDATION), (VALIDATION, TRAIN)):
        if wanted not in parts and len(names) > 1 and parts.count(other):
            moved = names[0] if wanted == TRAIN else names[-1]
            for k in free:
                if groups[k] == moved:
                    parts[k] = wanted
    return parts

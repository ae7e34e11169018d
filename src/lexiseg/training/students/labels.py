"""Sets to learn from: pseudo-labels of a teacher, or true masks for the upper bound."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lexiseg.datasets.columns import NO_GROUP, TAKEN_AS_GROUP
from lexiseg.datasets.manifest import ManifestRow, read_manifest, taken_as_group
from lexiseg.datasets.mask_doubts import tell_turned
from lexiseg.datasets.splits import part_named, split_by_group, tell_torn
from lexiseg.errors import UsageError
from lexiseg.files import sha256_of
from lexiseg.io.names import printable
from lexiseg.text import sides

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = "train", "val", "test"
MANIFEST, RECORD = "manifest.csv", "pseudo_labels.json"
"""The two files that make a folder a set of pseudo-labels; the record is written last."""


def names_a_side(phrases: Iterable[str]) -> bool:
    """True where a phrase says left or right, so that a mirrored scan would have another answer."""
    return any(map(sides.names_a_side, phrases))


def parts_of(rows: Sequence[ManifestRow], *, validation: float, seed: int) -> list[str]:
    """Each row's part: "train", "val" or "test".

    The column split decides, where a row has one of these words in it, and for rows without one of the same group.
    Others are split by group, so that all scans of a patient are in one part; a scan without a group is one of its own.
    Where there are two such groups or more, one at least is in each of "train" and "val".

    Args:
        rows: of a manifest.
        validation: share of the scans without a word of their own that go to "val".
        seed: of the split.
    """
    known = [_part(row) for row in rows]
    groups = [f"group {row.group}" if row.group else f"scan {row.id}" for row in rows]
    # Of a group that the column itself tears, the last of these counts: what is held out must not be learnt.
    by_part = sorted(zip(groups, known, strict=True), key=lambda each: ("", TRAIN, VALIDATION, TEST).index(each[1]))
    own = dict(by_part)
    known = [part or own.get(group, "") for part, group in zip(known, groups, strict=True)]
    free = [k for k, word in enumerate(known) if not word]
    drawn = split_by_group([groups[k] for k in free], {TRAIN: 1 - validation, VALIDATION: validation}, seed=seed)
    for k, part in zip(free, drawn, strict=True):
        known[k] = part
    return _never_empty(known, groups, free) if validation > 0 else known


def _part(row: ManifestRow) -> str:
    """The part that a row's column split names; "" where it names none."""
    return part_named(row.extra.get("split", "")) or ""


def tell_splits(rows: Sequence[ManifestRow]) -> None:
    """A line where the column split says something that is no part, or has a patient in two parts.

    Another says which column is taken for the patient, or that none says so where scans have to be split.
    """
    strange = Counter(word for row in rows if (word := row.extra.get("split", "").strip()) and not _part(row))
    if strange:
        word, count = strange.most_common(1)[0]
        logger.warning(
            "the column split says %r of %d rows, which is none of train, val and test: they are split by group",
            printable(word), count,
        )  # fmt: skip
    tell_torn((row.group, _part(row)) for row in rows)
    if (taken := taken_as_group(rows)) is not None:
        logger.warning("%s", printable(TAKEN_AS_GROUP.format(taken)))
    elif any(not _part(row) for row in rows) and not any(row.group for row in rows):
        logger.warning(NO_GROUP.format("scans"))


def _never_empty(parts: list[str], groups: Sequence[str], free: Sequence[int]) -> list[str]:
    names = sorted({groups[k] for k in free})
    for wanted, other in ((TRAIN, VALIDATION), (VALIDATION, TRAIN)):
        if wanted not in parts and len(names) > 1 and parts.count(other):
            moved = names[0] if wanted == TRAIN else names[-1]
            for k in free:
                if groups[k] == moved:
                    parts[k] = wanted
    return parts


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """Scans with masks.

    Attributes:
        names: of the targets; in a mask, the k-th is k (of one target, anything above 0).
        rows: with a mask each, and in `extra` "split" ("train" or "val") and "weight" (a number above 0).
        supervised: True where the masks are true ones, False for pseudo-labels.
        teacher: what made pseudo-labels, as plain values.
        one_sided: True where a target is of one side, or may be for all that is known, although no name says so.
    """

    names: tuple[str, ...]
    rows: tuple[ManifestRow, ...]
    supervised: bool
    teacher: Mapping[str, Any] = field(default_factory=dict)
    one_sided: bool = False

    @property
    def sided(self) -> bool:
        """Whether a mirrored scan would have other masks."""
        return self.one_sided or names_a_side(self.names)

    @property
    def kind(self) -> str:
        """What the masks are, in words."""
        return "true masks" if self.supervised else "pseudo-labels"

    def digest(self) -> str:
        """SHA-256 of what there is to learn: each scan's id, part and weight, its image and its mask."""
        told = hashlib.sha256()
        for row in self.rows:
            files = [sha256_of(path) if path is not None and path.is_file() else "" for path in (row.image, row.mask)]
            told.update("\0".join([row.id, row.group, row.extra["split"], row.extra["weight"], *files, ""]).encode())
        return told.hexdigest()


def read_pseudo_labels(folder: str | Path) -> LabelSet:
    """Read a folder that `lexiseg pseudo-label` wrote.

    Raises:
        UsageError: it is none, or its files cannot be read.
    """
    folder = Path(folder)
    label = printable(str(folder))
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for name in record["phrases"])
        teacher = dict(record["teacher"])
    except FileNotFoundError as error:
        raise UsageError(
            f"{label}: there is no {RECORD}; expected a folder that `lexiseg pseudo-label` finished "
            "(for true masks give --masks MANIFEST)"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: it cannot be read; run `lexiseg pseudo-label` again") from error
    rows = [row for row in read_manifest(folder / MANIFEST) if row.mask is not None and not row.error]
    wrong = [row.id for row in rows if row.extra.get("split") not in (TRAIN, VALIDATION) or not _weight(row)]
    if wrong or not rows:
        what = f"row {printable(wrong[0])} has no split or weight" if wrong else "it has no rows"
        raise UsageError(f"{label}/{MANIFEST}: {what}; run `lexiseg pseudo-label` again")
    return LabelSet(names=names, rows=tuple(rows), supervised=False, teacher=teacher)


def read_true_masks(
    manifest: str | Path, names: Sequence[str] = (), *, validation: float = 0.2, seed: int = 0
) -> LabelSet:
    """Read a manifest with true masks, for the fully supervised upper bound.

    Rows without a mask and rows of the split "test" are left out; see `parts_of` for the split.

    Args:
        manifest: a CSV, see `read_manifest`.
        names: of the targets; the rows' text, where all have the same, else "target" when none are given.
        validation: share of the scans, where the manifest has no split.
        seed: of the split.

    Raises:
        UsageError: it cannot be read, or no row has a mask.
    """
    listed, name = read_manifest(manifest), printable(str(manifest))
    rows = [row for row in listed if row.mask is not None and not row.error]
    wrong = [row for row in listed if row.error]
    if not rows:
        why = f"can be used; the first problem: {wrong[0].error}" if wrong else "has a mask; expected a column mask"
        raise UsageError(f"{name}: no row {why}")
    if wrong:
        logger.warning("%d of %d rows cannot be used; the first problem: %s", len(wrong), len(listed), wrong[0].error)
    tell_splits(rows)
    texts = Counter(row.text for row in rows)
    given = tuple(names) or ((next(iter(texts)) if len(texts) == 1 else "") or "target",)
    if not names and len(texts) > 1:
        logger.warning("the rows have %d texts, so what they show is called 'target'; --text names it", len(texts))
    parts = parts_of(rows, validation=validation, seed=seed)
    kept = tuple(
        replace(row, extra={"split": part, "weight": "1"})
        for row, part in zip(rows, parts, strict=True)
        if part != TEST
    )
    if not kept:
        raise UsageError(f"{printable(str(manifest))}: all its rows are of the split test")
    tell_turned((row.image, row.mask) for row in kept)
    shown = tuple(names) or tuple(texts)
    if not all(shown):
        logger.warning(
            "no text says what the masks show, which may be one side's: no scan is mirrored; --text names it"
        )
    return LabelSet(names=given, rows=kept, supervised=True, one_sided=not all(shown) or names_a_side(shown))


def _weight(row: ManifestRow) -> float:
    try:
        return max(0.0, float(row.extra.get("weight", "")))
    except ValueError:
        return 0.0

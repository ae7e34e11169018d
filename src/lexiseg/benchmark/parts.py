"""Parts of a set that are known by name, and which scans the bundled models were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UsageError
from recipe.data import TRAINING_SETS, blocks, fold_of

ALL, BUNDLED_VALIDATION = "all", "bundled-validation"
PARTS = (ALL, BUNDLED_VALIDATION)
_FOLD = 0


def rows_of_part(rows: Sequence[ManifestRow], part: str, manifest: str) -> list[ManifestRow]:
    """The rows of a part, in order.

    Args:
        rows: of the whole manifest, since a split is by groups.
        part: "all"; or "bundled-validation", the scans of the bundled models' training sets on which they
            were validated, by the recipe's own rule (fold 0 of 5, by patient block).
        manifest: its path, whose folder says which set it is.

    Raises:
        UsageError: the set is none of the bundled models' training sets.
    """
    if part == ALL:
        return list(rows)
    if _folder(manifest) not in TRAINING_SETS:
        raise UsageError(
            f"{manifest} is none of the bundled models' training sets, so it has no part {part}; "
            f"expected in a folder {', '.join(TRAINING_SETS)}"
        )
    held_out = _held_out(rows)
    return [row for row in rows if row.id in held_out]


def training_statement(rows: Sequence[ManifestRow], chosen: Sequence[ManifestRow], manifest: str) -> str:
    """Whether the bundled models were trained on the chosen scans, in words.

    Args:
        rows: of the whole manifest.
        chosen: those that are scored.
        manifest: its path, whose folder says which set it is.
    """
    if _folder(manifest) not in TRAINING_SETS:
        return "the bundled models were not trained on any scan of this set"
    held_out = _held_out(rows)
    seen = sum(row.id not in held_out for row in chosen)
    trained = len(rows) - len(held_out)
    if seen:
        return f"the bundled models WERE TRAINED on {seen} of these {len(chosen)} scans"
    return f"the bundled models were trained on {trained} other scans of this set (split by patient or group)"


def _folder(manifest: str) -> str:
    return PurePosixPath(manifest).parent.name


def _held_out(rows: Sequence[ManifestRow]) -> set[str]:
    plain = [{"id": row.id, "label": row.label, "group": row.group} for row in rows]
    return {row.id for row, block in zip(rows, blocks(plain), strict=True) if fold_of(block) == _FOLD}

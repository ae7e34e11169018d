"""Which scans the bundled models were trained on, and parts of a set that are known by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UsageError

ALL, BUNDLED_VALIDATION = "all", "bundled-validation"
PARTS = (ALL, BUNDLED_VALIDATION)


@cache
def held_out_groups() -> Mapping[str, frozenset[str]]:
    """Training set -> its groups (patients) that the bundled models never saw; they saw all others.

    Read from bundled/training_split.json, which the recipe writes.
    """
    text = resources.files("lexiseg.bundled").joinpath("training_split.json").read_text("utf-8")
    return {name: frozenset(groups) for name, groups in json.loads(text)["held_out"].items()}


def rows_of_part(rows: Sequence[ManifestRow], part: str, manifest: str) -> list[ManifestRow]:
    """The rows of a part, in order.

    Args:
        rows: of the manifest.
        part: "all"; or "bundled-validation", the scans of the bundled models' training sets that they were
            validated on.
        manifest: its path, whose folder says which set it is.

    Raises:
        UsageError: the set is none of the bundled models' training sets.
    """
    if part == ALL:
        return list(rows)
    held_out = held_out_groups()
    if _folder(manifest) not in held_out:
        raise UsageError(
            f"{manifest} is none of the bundled models' training sets, so it has no part {part}; "
            f"expected in a folder {', '.join(held_out)}"
        )
    return [row for row in rows if row.group in held_out[_folder(manifest)]]


def training_statement(rows: Sequence[ManifestRow], chosen: Sequence[ManifestRow], manifest: str) -> str:
    """Whether the bundled models were trained on the chosen scans, in words.

    Args:
        rows: of the whole manifest.
        chosen: those that are scored.
        manifest: its path, whose folder says which set it is.
    """
    held_out = held_out_groups().get(_folder(manifest))
    if held_out is None:
        return "the bundled models were not trained on any scan of this set"
    seen = sum(row.group not in held_out for row in chosen)
    trained = sum(row.group not in held_out for row in rows)
    if seen:
        return f"the bundled models WERE TRAINED on {seen} of these {len(chosen)} scans"
    return f"the bundled models were trained on {trained} other scans of this set (split by patient or group)"


def _folder(manifest: str) -> str:
    return PurePosixPath(manifest).parent.name

"""Options that change a preset, as one set of changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def preset_changes(
    settings: Sequence[str] | None, *, threshold: float | None, encoder: str | None, segmenter: str | None
) -> dict[str, Any]:
    """`--set`, `--threshold`, `--encoder` and `--segmenter` as changes for `Preset.override`.

    Raises:
        UsageError: a setting cannot be read.
    """
    from lexiseg.pipelines import merge_settings

    given = list(settings or ())
    if threshold is not None:
        given.append(f"presence.threshold={threshold}")
    named = {"encoder": encoder, "segmenter": segmenter}
    return {**merge_settings(given), **{key: value for key, value in named.items() if value}}

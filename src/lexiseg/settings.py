"""Settings out of mappings: YAML files and command lines become dataclasses, or one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from lexiseg.errors import UsageError

_S = TypeVar("_S")

RENAMED: Mapping[tuple[str, str], str] = {
    ("mask", "final"): "fusion",
    ("mask", "cut"): "binarize (half, or expected-dice for dice)",
    ("mask", "closer"): "crop_scale",
    ("saliency", "white"): "clip_percentile",
    ("retrieval", "least"): "min_score",
    ("retrieval", "trim"): "min_saliency",
    ("crops", "prompt"): "visual_prompt",
    ("volume", "axis"): "plane",
    ("volume", "drop_lone"): "min_slices (2 for true)",
    ("volume", "drop_isolated"): "min_slices (2 for true)",
    ("volume", "retry_gaps"): "max_gap (mm)",
    ("volume", "fill_gaps"): "max_gap (mm)",
    ("volume", "overlap"): "min_overlap",
}
"""(section, former name) -> the name of today, for files written before."""


def read_settings(kind: type[_S], given: Mapping[str, Any], *, section: str, base: _S | None = None) -> _S:
    """A dataclass of settings from named values.

    Args:
        kind: a frozen dataclass that checks its own values.
        given: names and values, as YAML reads them; lists stand for tuples.
        section: what the settings are of, for messages.
        base: settings that the given ones change; the defaults when None.

    Raises:
        UsageError: a name that there is not (of a former one, today's is told), or a value that the setting
            cannot take.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name in known:
            continue
        if (section, name) in RENAMED:
            raise UsageError(f"{section} has no setting {name!r} any more: it is called {RENAMED[section, name]} now")
        raise UsageError(f"{section} has no setting {name!r}; expected among {', '.join(known) or 'none'}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return kind(**values) if base is None else replace(base, **values)  # type: ignore[type-var]
    except TypeError as error:
        raise UsageError(f"{section}: {dict(given)!r} holds a value of the wrong kind ({error})") from error


PRECISIONS = ("auto", "float32", "bfloat16")


def check_precision(name: str) -> None:
    """See that models can compute in such a number format.

    Raises:
        UsageError: the name is none of auto, float32, bfloat16.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: expected one of {', '.join(PRECISIONS)}")

"""Settings as frozen dataclasses: types, ranges, choices, files and changes, each told once."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources.abc import Traversable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from lexiseg.errors import UnknownPreset, UsageError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""Number formats of a training's products; its weights stay float32."""

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "nothing"}


def setting(
    default: Any,
    meaning: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of `Settings`.

    Args:
        default: its value where none is given.
        meaning: one or two sentences; the reference page of the docs is made of them.
        low: the smallest value.
        high: the largest value.
        above: what the value is larger than.
        choices: what a text, or each text of a tuple, may be.
    """
    limits = {"low": low, "high": high, "above": above, "choices": choices}
    return field(default=default, metadata={"meaning": meaning, **limits})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings whose fields are made by `setting` and checked when they are made.

    Raises:
        UsageError: a value of another type, or out of its range; the message names the field.
    """

    def __post_init__(self) -> None:
        for each, hint in _typed_fields(type(self)):
            value = getattr(self, each.name)
            if not (_is(value, hint) and _within(value, each.metadata)):
                raise UsageError(f"{each.name} is {value!r}; expected {_expected(hint, each.metadata)}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for records: tuples become lists."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


SettingsType = TypeVar("SettingsType", bound=Settings)


def make_settings(kind: type[SettingsType], values: Mapping[str, Any]) -> SettingsType:
    """Settings of plain values, as a file or a command line gives them.

    A number may be written as text, since YAML reads 1e-6 so, and a tuple as a list.

    Args:
        kind: the dataclass.
        values: by field.

    Raises:
        UsageError: a field that does not exist, or a value that it cannot have.
    """
    hints = {each.name: hint for each, hint in _typed_fields(kind)}
    for name in values:
        if name not in hints:
            raise UsageError(f"there is no setting {name!r}; expected one of {', '.join(hints)}")
    return kind(**{name: _converted(value, hints[name]) for name, value in values.items()})


def read_settings(kind: type[SettingsType], file: Path | Traversable, /, **changes: Any) -> SettingsType:
    """Settings of a YAML file, with changes.

    Args:
        kind: the dataclass.
        file: holds some of its fields.
        changes: fields to replace; None leaves the file's.

    Raises:
        UnknownPreset: the file cannot be read, or holds no fields.
        UsageError: a field that does not exist, or a value that it cannot have.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UnknownPreset(f"preset {file} cannot be read ({type(error).__name__})") from error
    except yaml.YAMLError as error:
        raise UnknownPreset(f"preset {file} is not YAML") from error
    if not isinstance(values, dict):
        some = ", ".join(each.name for each in fields(kind)[:3])
        raise UnknownPreset(f"preset {file} holds no fields; expected {some}, ...")
    named = {str(name): value for name, value in values.items()}
    return make_settings(kind, named | {name: value for name, value in changes.items() if value is not None})


def parse_change(text: str) -> tuple[str, Any]:
    """``key=value`` as a field's name and its value, read as YAML.

    Raises:
        UsageError: it is not of that form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"setting {text!r} is not of the form key=value, such as seed=1")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"setting {text!r}: the value cannot be read") from error


def _typed_fields(kind: type[Settings]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(kind)
    return [(each, hints[each.name]) for each in fields(kind)]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a number, true is neither."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(each, get_args(hint)[0]) for each in value)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _within(value: Any, limits: Mapping[str, Any]) -> bool:
    if _is(value, float):
        return bool(limits["low"] <= value <= limits["high"] and value > limits["above"])
    texts = value if isinstance(value, tuple) else (value,)
    return value is None or not limits["choices"] or all(each in limits["choices"] for each in texts)


def _expected(hint: Any, limits: Mapping[str, Any]) -> str:
    """What a field may be, in words."""
    low, high, above = limits["low"], limits["high"], limits["above"]
    found = []
    for each in _alternatives(hint):
        choices = get_args(each) if get_origin(each) is Literal else limits["choices"]
        if choices and each is not type(None):
            words = ", ".join(choices)
            found.append(f"among {words}" if get_origin(each) is tuple else f"one of {words}")
        elif get_origin(each) is tuple:
            found.append(f"a list, each {_WORDS[get_args(each)[0]]}")
        else:
            found.append(_WORDS[each] + (_range(low, high, above) if each in (int, float) else ""))
    return " or ".join(found)


def _range(low: float, high: float, above: float) -> str:
    if above > -math.inf:
        return f", more than {above:g}"
    if high < math.inf:
        return f", {low:g} to {high:g}"
    return f", at least {low:g}" if low > -math.inf else ""


def _converted(value: Any, hint: Any) -> Any:
    kinds = _alternatives(hint)
    if float in kinds and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    if float in kinds and int not in kinds and type(value) is int:
        return float(value)
    if isinstance(value, list) and any(get_origin(each) is tuple for each in kinds):
        return tuple(value)
    return value

"""Fields of a YAML mapping, each taken as what it has to be, or refused in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.scans import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Fields:
    """A mapping's fields.

    Args:
        values: what YAML made of it; None counts as no fields.
        where: what its errors begin with, such as "smoke.yaml: sets.busi".
        known: names of all fields that there are; () for any.

    Raises:
        UsageError: it is no mapping, or has a field that is not known.
    """

    def __init__(self, values: Any, where: str, known: tuple[str, ...] = ()) -> None:
        values = {} if values is None else values
        if not isinstance(values, Mapping):
            raise UsageError(f"{where} is {_shown(values)}; expected fields, such as name: value")
        for name in values:
            if not isinstance(name, str):
                raise UsageError(f"{where}: {_shown(name)} is no text; put it in quotes")
            if known and name not in known:
                raise UsageError(
                    f"{where}: there is no field {_shown(name)}; expected among {', '.join(known)}"
                )
        self.values: Mapping[str, Any] = values
        self.where = where

    def text(self, name: str, default: str | None = None) -> str:
        """A text on one line; needed where there is no default."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a text")
        return " ".join(value.split())

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one text; () where it is not there."""
        value = self.values.get(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a list of texts")
        return tuple(dict.fromkeys(value))

    def whole(self, name: str, default: int | None, *, least: int) -> int | None:
        """A whole number."""
        value = self.values.get(name, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(
                f"{self.where}: {name} is {_shown(value)}; expected a whole number of at least {least}"
            )
        return value

    def number(self, name: str, default: float) -> float:
        """A number above 0."""
        value = self.values.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected a number above 0")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; false where it is not there."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.where}: {name} is {_shown(value)}; expected true or false")
        return value

    def inner(self, name: str, *known: str) -> Fields:
        """The fields of a mapping inside this one; none where it is not there."""
        return Fields(self.values.get(name), f"{self.where}: {name}", known)

    def each(self, name: str, *known: str) -> dict[str, Fields]:
        """The mappings of a mapping by name, at least one; the names are fit for folders."""
        outer = self.inner(name)
        if not outer.values:
            raise UsageError(f"{self.where}: {name} is empty; expected at least one")
        for key in outer.values:
            if not _NAME.fullmatch(key):
                raise UsageError(
                    f"{self.where}: {name}: {_shown(key)} cannot be a folder's name; "
                    "expected letters, digits, dots, dashes"
                )
        folded = [key.casefold() for key in outer.values]
        if len(set(folded)) < len(folded):
            raise UsageError(f"{self.where}: {name}: two names differ in case alone; expected another name")
        return {key: Fields(value, f"{outer.where}.{key}", known) for key, value in outer.values.items()}

    def phrases(self, name: str) -> dict[str, str]:
        """A mapping of texts to phrases; none where it is not there."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in inner.values}


def _shown(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."

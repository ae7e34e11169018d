"""What is wrong with a preset's settings, told as the person who wrote them knows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lexiseg.errors import UsageError


@contextmanager
def section(name: str, settings: Mapping[str, Any], known: tuple[str, ...] = ()) -> Iterator[None]:
    """While a section's settings are put to use inside, turn what does not fit into a `UsageError`.

    Args:
        name: the section's.
        settings: its content.
        known: the settings that there are; empty where the block itself refuses others.

    Raises:
        UsageError: an unknown setting, or (from inside) a value of the wrong kind.
    """
    unknown = sorted(repr(key) for key in settings if known and key not in known)
    if unknown:
        raise UsageError(f"{name} has no setting {', '.join(unknown)}; expected among {', '.join(known)}")
    try:
        yield
    except TypeError as error:
        raise UsageError(
            f"{name}: {dict(settings)!r} holds a name or a value of the wrong kind ({error})"
        ) from error


def keywords(stage: Callable[..., Any]) -> tuple[str, ...]:
    """The keyword-only arguments of a function or of a dataclass's making."""
    return tuple(p.name for p in inspect.signature(stage).parameters.values() if p.kind is p.KEYWORD_ONLY)


def presence_threshold(value: Any) -> float | None:
    """The presence section's threshold: a number from 0 to 1, or None for none.

    Raises:
        UsageError: it is neither.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= value <= 1):
        raise UsageError(f"presence: threshold is {value!r}; expected 0 to 1, or null for none")
    return None if value is None else float(value)

"""Where a training was: everything that its continuation depends on, in one file that is whole or absent."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import torch

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

State = TypeVar("State", bound="DataclassInstance")
_DAMAGE = (OSError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, ValueError,
           pickle.UnpicklingError)  # fmt: skip
_SHORT, _MOST = 40, 3
"""Longer values are not told, and of many differences only so many are."""


def save_checkpoint(
    path: Path, state: DataclassInstance, tensors: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Write a checkpoint in one step; a full disk or a kill leaves the one before.

    Args:
        path: the file.
        state: how far the training is, a dataclass of plain values.
        tensors: state dictionaries of models, optimiser, ..., and tensors.
        identity: what a continuation must share, plain values; see `load_checkpoint`.

    Raises:
        UnwritableResult: the file system refused.
    """
    save_tensors(path, {"state": asdict(state), "identity": dict(identity), **tensors})


def load_checkpoint(path: Path, kind: type[State], identity: Mapping[str, Any]) -> tuple[State, dict[str, Any]]:
    """Read a checkpoint of the same training, on the CPU.

    Args:
        path: the file.
        kind: of the state.
        identity: settings, data and start of the training that wants to go on.

    Returns:
        The state, and the tensors.

    Raises:
        UsageError: it cannot be read, or belongs to a training with another identity.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state, before = kind(**content.pop("state")), content.pop("identity")
    except _DAMAGE as error:
        raise UsageError(
            f"{path}: it is no checkpoint that can be read ({type(error).__name__}); "
            "run without --resume, or in another folder"
        ) from error
    found = list(_differences(before, identity))
    if found:
        more = [f"{len(found) - _MOST} other differences"] if len(found) > _MOST else []
        raise UsageError(
            f"{path}: it was begun with {' and '.join(found[:_MOST] + more)}; resume with the same, "
            "run without --resume, or choose another folder"
        )
    return state, content


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `torch.load` reads, in one step.

    Raises:
        UnwritableResult: the file system refused.
    """

    def write(file: BinaryIO) -> None:
        stream = _Watched(file)
        try:
            torch.save(content, cast(Any, stream))
        except RuntimeError as error:  # torch's writer hides what the file system said
            raise stream.error or error from error

    atomic_write(path, write)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys(), key=str):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new)
        elif old != new:
            short = max(len(repr(old)), len(repr(new))) <= _SHORT
            yield f"{name}={old!r} (now {new!r})" if short else f"other {name}"


class _Watched:
    """A file that remembers what the file system said."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()

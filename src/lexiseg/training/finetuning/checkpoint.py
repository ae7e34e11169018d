"""Where a run was: everything that its continuation depends on, in one file that is whole or absent."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write

CHECKPOINT = "last.pt"
Row = dict[str, float]


@dataclass
class RunState:
    """How far a run has come.

    Attributes:
        epoch: epochs that are finished.
        step: steps that are finished.
        best: the best validation retrieval so far (top-1, mean of both directions).
        best_epoch: when that was; 0 before the first epoch.
        stale: epochs since.
        history: one row for each epoch, and one for the encoder before training.
    """

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    stale: int = 0
    history: list[Row] = field(default_factory=list)


def save_checkpoint(path: Path, state: RunState, tensors: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write a checkpoint in one step: a full disk leaves the one before.

    Args:
        path: the file.
        state: how far the run is.
        tensors: state dictionaries of model, optimiser, ...
        identity: what a continuation must share; see `load_checkpoint`.

    Raises:
        UnwritableResult: the file system refused.
    """
    content = {"state": asdict(state), "identity": identity, **tensors}

    def write(file: BinaryIO) -> None:
        stream = _Watched(file)
        try:
            torch.save(content, cast(Any, stream))
        except RuntimeError as error:  # torch's writer hides what the file system said
            raise stream.error or error from error

    atomic_write(path, write)


def load_checkpoint(path: Path, identity: dict[str, Any]) -> tuple[RunState, dict[str, Any]]:
    """Read a checkpoint of the same run.

    Args:
        path: the file.
        identity: settings, data and encoder of the run that wants to go on.

    Returns:
        The state, and the state dictionaries on the CPU.

    Raises:
        UsageError: it cannot be read, or belongs to a run with another identity.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = RunState(**content.pop("state"))
        before = content.pop("identity")
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path}: it is no checkpoint that can be read ({type(error).__name__}); run without --resume "
            "in another folder"
        ) from error
    for name in sorted(before.keys() | identity.keys()):
        if before.get(name) != identity.get(name):
            raise UsageError(
                f"{path}: the run was begun with {name}={before.get(name)!r}, now it is "
                f"{identity.get(name)!r}; resume with the same or choose another folder"
            )
    return state, content


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

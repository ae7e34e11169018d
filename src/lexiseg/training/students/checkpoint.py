"""Where a training was: one file that is whole or absent, and goes when the model is written."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from lexiseg.errors import UsageError
from lexiseg.files import atomic_write

CHECKPOINT = "checkpoint.pt"
_DAMAGE = (OSError, RuntimeError, LookupError, TypeError, AttributeError, EOFError, ValueError,
           pickle.UnpicklingError)  # fmt: skip


@dataclass
class TrainState:
    """How far a training has come.

    Attributes:
        step: steps that are finished.
        cycles: for each cycle begun, its best check: "score" (NaN where there is no validation) and "step".
        stale: checks since the best of all.
        history: one row for each check.
        ended: whether patience ended it.
    """

    step: int = 0
    cycles: list[dict[str, float]] = field(default_factory=list)
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


def save_state(path: Path, state: TrainState, tensors: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Write a checkpoint in one step; a full disk or a kill leaves the one before.

    Args:
        path: the file.
        state: how far it is.
        tensors: state dictionaries and tensors.
        identity: what a continuation must share.

    Raises:
        UnwritableResult: the file system refused.
    """
    # In memory first: torch's own writer hides what the file system said.
    buffer = io.BytesIO()
    torch.save({"state": asdict(state), "identity": dict(identity), **tensors}, buffer)
    atomic_write(path, lambda file: file.write(buffer.getbuffer()))


def load_state(path: Path, identity: Mapping[str, Any]) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint of the same training, on the CPU.

    Raises:
        UsageError: it cannot be read, or was begun with other settings or scans.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state, before = TrainState(**content.pop("state")), content.pop("identity")
    except _DAMAGE as error:
        raise UsageError(
            f"{path}: it cannot be read ({type(error).__name__}); run without --resume to start anew"
        ) from error
    differing = sorted(name for name in {**before, **identity} if before.get(name) != identity.get(name))
    if differing:
        raise UsageError(
            f"{path}: the training was begun with other {' and '.join(differing)}; resume with the same, run "
            "without --resume, or choose another folder"
        )
    return state, content

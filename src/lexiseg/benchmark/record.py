"""cell.json: what a cell's results were made of, and so whether they still count."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable
from lexiseg.runs.segment import Pipeline
from lexiseg.runs.table import settings_record

RECORD_NAME = "cell.json"
_BESIDES = ("versions", "threads")


@dataclass(frozen=True)
class CellState:
    """What there is of a cell.

    Attributes:
        done: ids of the scans that need no more work.
        usable: whether what is there can be continued; a cell that cannot is begun anew.
        changed: what is other than before, in words; "" where nothing is.
    """

    done: frozenset[str] = frozenset()
    usable: bool = False
    changed: str = ""


def cell_settings(pipeline: Pipeline, *, seed: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a cell's results, besides its scans, as plain values.

    "versions" and "threads" are in it for the leaderboard alone: they do not make earlier results void.

    Args:
        pipeline: its preset, and its models with their checksums.
        seed: of the cell.
        asked: whatever else matters.
    """
    models = (pipeline.encoder, pipeline.segmenter)
    record = settings_record(
        pipeline.provenance,
        device=str(pipeline.encoder.device),
        precision="/".join(str(getattr(model, "precision", "")) for model in models),
        seed=seed,
        phrases=(),
        options={},
    )
    record |= {"options": dict(asked), "threads": torch.get_num_threads()}
    # Through JSON, in which tuples are lists.
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def read_cell(folder: Path) -> dict[str, Any] | None:
    """A cell's record; None where there is none, or none that can be read."""
    try:
        content = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    sound = isinstance(content, dict) and isinstance(content.get("settings"), dict)
    return content if sound and isinstance(content.get("scans"), dict) else None


def cell_state(
    folder: Path,
    settings: Mapping[str, Any],
    scans: Mapping[str, str],
    finished: Callable[[Path], frozenset[str]],
) -> CellState:
    """Compare a cell's folder with what is wanted of it.

    Args:
        folder: the cell's.
        settings: see `cell_settings`.
        scans: each scan's digest, by id.
        finished: reads the ids of the scans that were answered.

    Raises:
        UsageError: the folder holds something that no benchmark wrote.
    """
    before = read_cell(folder)
    if before is None:
        foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD_NAME).exists()
        if foreign:
            raise UsageError(f"{printable(str(folder))}: it holds files that no benchmark wrote; choose another --out")
        return CellState()
    changed = _changes(before["settings"], settings)
    if not changed and any(before["scans"].get(name, digest) != digest for name, digest in scans.items()):
        changed = "scans or phrases"
    if changed:
        return CellState(changed=changed)
    return CellState(done=finished(folder) & before["scans"].keys() & scans.keys(), usable=True)


def begin_cell(folder: Path, settings: Mapping[str, Any], scans: Mapping[str, str], *, keep: bool) -> None:
    """Make a cell's folder and write its record; remove what cannot be continued.

    Args:
        folder: the cell's.
        settings: see `cell_settings`.
        scans: each scan's digest, by id.
        keep: continue what is there, whose other scans stay.

    Raises:
        UnwritableResult: the file system refused.
    """
    before: Mapping[str, str] = {}
    try:
        if keep:
            before = (read_cell(folder) or {"scans": {}})["scans"]
        elif (folder / RECORD_NAME).exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableResult(
            f"{printable(str(folder))}: results cannot be written there ({error.strerror})"
        ) from error
    record = {"digest": digest_of(settings), "settings": settings, "scans": {**before, **scans}}
    content = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    atomic_write(folder / RECORD_NAME, lambda file: file.write(content.encode()))


def digest_of(settings: Mapping[str, Any]) -> str:
    """The sha256 of what decides the results."""
    deciding = {key: value for key, value in settings.items() if key not in _BESIDES}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _changes(before: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    names = [key for key in settings if key not in _BESIDES and before.get(key) != settings[key]]
    return " and ".join({"lexiseg": "version of lexiseg", "models": "weights"}.get(key, key) for key in names)

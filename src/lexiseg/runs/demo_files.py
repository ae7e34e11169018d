"""Whose is a demonstration's folder? What it wrote is listed in demo.json, and nothing else is overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write, sha256_of
from lexiseg.io.names import printable
from lexiseg.io.taken import refuse_taken

RECORD_NAME = "demo.json"


def begin_demo(out: Path, names: Sequence[str]) -> None:
    """Make a folder a demonstration's, before it writes anything else there.

    The names are listed at first without what they hold, so that a demonstration that was killed can be done again.

    Args:
        out: missing, empty or of an earlier demonstration.
        names: of the files that will be written, relative to the folder.

    Raises:
        UsageError: it is a file, holds what no demonstration wrote, or a file of one that was changed since.
        UnwritableResult: the file system refuses.
    """
    shown = printable(str(out))
    refuse_taken(out, {})
    try:
        listed = _read(out)
        if listed is None and out.is_dir() and any(out.iterdir()):
            raise UsageError(f"{shown}: it holds files that no demo wrote; choose another folder, or an empty one")
        listed = listed or {}
        for name in sorted({*listed, *names}):
            path = out / name
            if not path.is_file():
                continue
            if name not in listed:
                raise UsageError(f"{shown}: {printable(name)} is there and no demo wrote it; choose another folder")
            if listed[name] and sha256_of(path) != listed[name]:
                raise UsageError(
                    f"{shown}: {printable(name)} was changed after its demo wrote it; move it away, "
                    "or choose another folder"
                )
    except OSError as error:
        raise UnwritableResult(f"{shown}: it cannot be read ({error.strerror}); choose another folder") from error
    _write(out, {**listed, **dict.fromkeys(names, "")})


def end_demo(out: Path) -> None:
    """List what the files of a demonstration hold, so that a later one sees which of them somebody changed.

    Raises:
        UnwritableResult: the file system refused.
    """
    names = _read(out) or {}
    _write(out, {name: sha256_of(out / name) for name in names if (out / name).is_file()})


def _read(out: Path) -> dict[str, str] | None:
    """Files by name, with their SHA-256 or ""; None where no demonstration wrote the record."""
    try:
        content = json.loads((out / RECORD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    files = content.get("lexiseg demo") if isinstance(content, dict) else None
    sound = isinstance(files, dict) and all(isinstance(value, str) for value in files.values())
    return files if sound else None


def _write(out: Path, files: Mapping[str, str]) -> None:
    content = json.dumps({"lexiseg demo": dict(sorted(files.items()))}, indent=2) + "\n"
    atomic_write(out / RECORD_NAME, lambda file: file.write(content.encode()))

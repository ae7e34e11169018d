"""Writing files so that a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lexiseg.errors import UnwritableResult

# What `atomic_write` was at when its process was killed, and an encoder's export that was being put together.
_TORN = re.compile(r"\.[0-9a-f]{16}\.tmp|\.export-[a-z0-9_]{8}")


def atomic_write(path: str | Path, writer: Callable[[BinaryIO], object]) -> Path:
    """Write a file in one step: a hidden temporary file beside it, fsync, then a rename over `path`.

    Missing parent folders are made. Whatever `writer` raises, the temporary file is removed and a file that
    stood at `path` before is left as it was.

    Args:
        path: where the file goes.
        writer: is called once with the open binary file.

    Returns:
        `path`, as a Path.

    Raises:
        UnwritableResult: the file system refused (full disk, missing permission, a folder of that name).
    """
    path = Path(path)
    # A short name of its own: `path.name` plus a suffix could exceed what the file system allows.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as handle:
                writer(handle)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnwritableResult(
            f"{path}: could not be written ({reason}); free some space or choose another folder"
        ) from error
    return path


def remove_torn(*folders: str | Path) -> int:
    """Remove what killed processes left half-written right in these folders; how many files and folders.

    To be called by the one who holds a folder: what another process is writing there looks the same. What
    cannot be removed, and a folder that is not there, is passed over.
    """
    removed = 0
    for folder in map(Path, folders):
        try:
            names = [name for name in os.listdir(folder) if _TORN.fullmatch(name)]  # noqa: PTH208  (names alone)
        except OSError:
            continue
        for path in (folder / name for name in names):
            with suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                removed += 1
    return removed


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; it is never held in memory whole."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

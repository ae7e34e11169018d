"""Writing files so that a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lexiseg.errors import UnwritableResult


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

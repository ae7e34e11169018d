"""Folders that results of one name each go to: may they be written there?"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.io.names import printable

_HEAD = 65536


def refuse_taken(out: str | Path, files: Mapping[str, str], *, inputs: Iterable[str | Path] = ()) -> None:
    """Pass unless results would overwrite what lexiseg did not write there; nothing is made and nothing is changed.

    Args:
        out: the folder.
        files: name of each file that will be written, and a regular expression that the beginning of one of an
            earlier run matches. An empty file is nobody's work.
        inputs: what is read, and so is never written.

    Raises:
        UsageError: the folder is a file, or a file of one of these names is an input or was written by something else.
        UnwritableResult: a folder above it is a file, or a file there cannot be read.
    """
    out = Path(out)
    shown = printable(str(out))
    if out.is_file():
        raise UsageError(f"{shown}: it is a file; expected a folder")
    above = next((each for each in (out, *out.parents) if os.path.lexists(each)), out)
    if above.exists() and not above.is_dir():
        raise UnwritableResult(f"{shown}: could not be written ({os.strerror(errno.ENOTDIR)}); choose another folder")
    read = {os.path.realpath(each) for each in inputs}
    for name, begins in files.items():
        path = out / name
        if not os.path.lexists(path):
            continue
        if os.path.realpath(path) in read:
            raise UsageError(f"{shown}: {name} is there and is read by this call; choose another folder")
        if not path.is_file() or not _is_ours(path, begins):
            raise UsageError(f"{shown}: {name} is there and lexiseg did not write it; choose another folder")


def _is_ours(path: Path, begins: str) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", errors="replace")
    except OSError as error:
        raise UnwritableResult(
            f"{printable(str(path))}: it is there and cannot be read ({error.strerror}); choose another folder"
        ) from error
    return not head.strip() or re.match(begins, head, re.DOTALL) is not None

"""A session's steps on disk: a line each, checked and synced, so that a kill loses none that was answered."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lexiseg.errors import UnwritableResult

# Windows writes two bytes for a line's end into what is not opened so, and no checksum would fit.
_AS_IT_IS = getattr(os, "O_BINARY", 0)


class Journal:
    """A file that grows by whole lines: a checksum, a space, and a step as JSON.

    Args:
        path: the file; it need not exist yet, its folder must.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: Mapping[str, Any]) -> None:
        """Add a step, and wait until it is on the disk.

        Raises:
            UnwritableResult: the file system refused; the file ends where it ended before.
        """
        text = json.dumps(step, separators=(",", ":"), allow_nan=False).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _AS_IT_IS, 0o600)
            try:
                before = os.lseek(descriptor, 0, os.SEEK_END)
                try:
                    _write_all(descriptor, line)
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnwritableResult(
                f"the change could not be saved ({reason}), so it was not made; free some space and do it again"
            ) from error

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """The steps, and how many lines after them are damaged; those are cut off, so that new steps follow sound ones.

        A last line that a kill tore off was never answered, and counts as none.

        Raises:
            UnwritableResult: the file cannot be read, or the damaged end not be cut off.
        """
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            steps, sound, at = [], 0, 0
            while (end := content.find(b"\n", at)) >= 0:
                step = _step_of(content[at:end])
                if step is None:
                    break
                steps.append(step)
                at = sound = end + 1
            damaged = content.count(b"\n", sound)
            if sound < len(content):
                if damaged:
                    self.path.with_suffix(".damaged").write_bytes(content[sound:])
                os.truncate(self.path, sound)
        except OSError as error:
            raise UnwritableResult(f"the saved changes cannot be read ({error.strerror})") from error
        return steps, damaged


def _step_of(line: bytes) -> dict[str, Any] | None:
    """The step of a line; None of a damaged one."""
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        step = json.loads(text)
    except ValueError:
        return None
    return step if isinstance(step, dict) else None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]

"""The folder of a launch: who holds it, what an earlier process left in it, and when it goes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.serve.settings import state_root

logger = logging.getLogger(__name__)

_LOCK = ".lock"
RECOVERABLE = 24 * 3600.0
"""Seconds for which what a killed process left is kept for the browser that made it."""


class State:
    """A folder that one process holds, readable by its user alone.

    Without a folder of the caller's choice it is a launch's own: it goes at shutdown. What a killed process left at
    the same port is taken over, so that its visitors find their scans again; what nobody used for a day goes first,
    and so do the folders of other launches that are dead as long.

    Args:
        folder: kept at shutdown; None for a launch's own.
        port: names a launch's own folder.
        root: of all launches; the user's state folder when None.

    Raises:
        UsageError: another process holds the folder.
        UnwritableResult: it cannot be made.
    """

    def __init__(self, folder: Path | None, *, port: int, root: Path | None = None) -> None:
        self.kept = folder is not None
        base = state_root() if root is None else root
        self.folder = folder if folder is not None else base / f"port-{port}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.kept:
                self.folder.chmod(0o700)
            self.visitors = self.folder / "visitors"
            self.visitors.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise UnwritableResult(
                f"{self.folder}: it cannot be made or used ({error.strerror}); choose another with --state"
            ) from error
        # Closed by another thread than the one that made it.
        self._lock = FileLock(self.folder / _LOCK, timeout=0, mode=0o600, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(f"{self.folder}: another lexiseg serve uses it; choose another --state") from error
        # Whatever is temporary lies here too, so that it goes with the folder after a kill.
        self.temporary = self.folder / "tmp"
        shutil.rmtree(self.temporary, ignore_errors=True)
        # Half uploads of a killed process.
        for torn in self.visitors.glob("*/incoming"):
            shutil.rmtree(torn, ignore_errors=True)
        if not self.kept:
            _purge_visitors(self.visitors)
            _purge_launches(base, self.folder)

    def visitor(self, key: str) -> Path:
        """A visitor's folder, by the visitor's key; it need not exist."""
        return self.visitors / key

    def close(self) -> None:
        """Let go of the folder; a launch's own is removed. Once it is closed there is nothing to let go of."""
        if not self._lock.is_locked:
            return
        shutil.rmtree(self.temporary, ignore_errors=True)
        if not self.kept:
            shutil.rmtree(self.visitors, ignore_errors=True)
        self._lock.release()
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)


def touch(folder: Path) -> None:
    """Note that a visitor's folder is in use."""
    try:
        os.utime(folder)
    except OSError:
        logger.debug("a visitor's folder cannot be touched")


def write_json(path: Path, content: object) -> None:
    """Write a small record in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    from lexiseg.files import atomic_write

    text = json.dumps(content, ensure_ascii=False).encode()
    atomic_write(path, lambda file: file.write(text))


def _purge_visitors(folder: Path) -> None:
    for each in folder.iterdir():
        if _idle(each) > RECOVERABLE:
            shutil.rmtree(each, ignore_errors=True)


def _purge_launches(base: Path, own: Path) -> None:
    """Remove what launches left that no process holds and nobody used for a day."""
    for each in base.iterdir():
        if each == own or not each.name.startswith("port-") or each.is_symlink() or not each.is_dir():
            continue
        visitors = each / "visitors"
        if visitors.is_dir() and any(_idle(visitor) <= RECOVERABLE for visitor in visitors.iterdir()):
            continue
        lock = FileLock(each / _LOCK, timeout=0)
        try:
            with lock:
                shutil.rmtree(each, ignore_errors=True)
        except (Timeout, OSError):
            continue


def _idle(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0

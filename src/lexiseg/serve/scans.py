"""A visitor's scans: their files and steps on disk, their sessions in memory while they are used."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import LexisegError, UnreadableScan, UnwritableResult
from lexiseg.serve.models import Models
from lexiseg.serve.problems import Refused, not_found
from lexiseg.serve.settings import Limits
from lexiseg.serve.state import State, touch, write_json

if TYPE_CHECKING:
    from lexiseg.session import Session
    from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

RECORD = "scan.json"
STEPS = "steps.jsonl"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a scan comes from; what is saved of it.

    Attributes:
        name: a label for a person; never a path.
        files: in the scan's folder, by names of our own.
        phantom: of a shipped phantom, its id; "" otherwise.
        preset: the session's.
        origin: of a worklist's scan, the item's id; "" otherwise.
        run: of a worklist's scan, a fingerprint of the run and of the scan's files; "" otherwise.
        seen: of a worklist's scan, a fingerprint of the run's answer and of the last verdict that its session began
            with, or gave; "" otherwise.
    """

    name: str
    files: tuple[str, ...] = ()
    phantom: str = ""
    preset: str = ""
    origin: str = ""
    run: str = ""
    seen: str = ""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Source:
        """Read back; what a newer version saved besides is passed over."""
        known = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "files": tuple(record["files"])})


Read = Callable[[Source, Path], "Scan"]
"""Reads a scan from its source and its folder."""


@dataclass(eq=False)
class Entry:
    """A scan of a visitor.

    Attributes:
        id: nobody can guess it.
        source: where it comes from.
        folder: its own.
        lock: held while its session is used.
        session: in memory; None until it is asked for, and after it was put aside.
        version: counts its changes.
        notes: what a person should know of it, besides the scan's own.
        used: when it was last asked for.
        size: bytes that it takes in memory while its session is there.
        range: values that are sent as 0 and 65535; None until a plane was sent.
    """

    id: str
    source: Source
    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock)
    session: Session | None = None
    version: int = 0
    notes: list[str] = field(default_factory=list)
    used: float = 0.0
    size: int = 0
    range: tuple[float, float] | None = None


class Scans:
    """All visitors' scans.

    Args:
        state: the launch's folder.
        models: of the server.
        limits: see `Limits`.
        read: reads a scan.
    """

    def __init__(self, state: State, models: Models, limits: Limits, read: Read) -> None:
        self._state, self._models, self._limits, self._read = state, models, limits, read
        self._lock = threading.Lock()
        self._visitors: dict[str, dict[str, Entry]] = {}

    def all(self, visitor: str) -> list[Entry]:
        """A visitor's scans, in the order in which they came; also those of a killed server."""
        with self._lock:
            return list(self._of(visitor).values())

    def get(self, visitor: str, id: str) -> Entry:
        """A visitor's scan.

        Raises:
            Refused: there is none of this id, or it is another visitor's.
        """
        with self._lock:
            entry = self._of(visitor).get(id)
        if entry is None:
            raise not_found("scan")
        return entry

    def session(self, entry: Entry) -> Session:
        """A scan's session, to be used while its lock is held; it is read and its steps are done again where needed.

        Raises:
            UnreadableScan: the scan cannot be read.
        """
        entry.used = time.monotonic()
        if entry.session is None:
            entry.session = self._open(entry, self._read(entry.source, entry.folder))
            self._put_aside(entry)
        return entry.session

    def place(self, visitor: str, *, limited: bool = True) -> Path:
        """A new folder for a visitor's scan; to be given to `add`, or removed.

        Args:
            visitor: the visitor's key.
            limited: whether it counts towards what the visitor may send; the worklist's scans do not.

        Raises:
            UnwritableResult: it cannot be made.
            Refused: the visitor has too many scans.
        """
        if limited and sum(not each.source.origin for each in self.all(visitor)) >= self._limits.scans:
            raise Refused(409, f"you have {self._limits.scans} scans open, which is the limit; close some first")
        folder = self._state.visitor(visitor) / "scans" / secrets.token_hex(8)
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise UnwritableResult(f"the scan could not be saved ({error.strerror}); free some space") from error
        return folder

    def incoming(self, visitor: str) -> Path:
        """Where a visitor's upload is stored until it is known what it holds; it need not exist."""
        return self._state.visitor(visitor) / "incoming" / secrets.token_hex(8)

    def add(
        self,
        visitor: str,
        source: Source,
        folder: Path,
        scan: Scan,
        *,
        fill: Callable[[Session], None] = lambda session: None,
    ) -> Entry:
        """Take a scan in, whose files lie in a folder of `place`.

        Args:
            visitor: the visitor's key.
            source: where the scan comes from.
            folder: of `place`.
            scan: as it was read.
            fill: puts into its session what it begins with. A scan is there only once that is done and saved.

        Raises:
            UnreadableScan: it cannot be shown, or not be filled; the folder is removed.
            UnwritableResult: it could not be saved; the folder is removed.
        """
        entry = Entry(folder.name, source, folder, used=time.monotonic())
        try:
            entry.session = self._open(entry, scan)
            fill(entry.session)
            # Last: a folder without it is what a kill left, and goes.
            write_json(folder / RECORD, vars(source))
        except LexisegError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._of(visitor)[entry.id] = entry
        touch(self._state.visitor(visitor))
        self._put_aside(entry)
        return entry

    def renote(self, entry: Entry, source: Source) -> None:
        """Note another source of a scan; where the disk is full, this process alone knows it."""
        entry.source = source
        with suppress(UnwritableResult):
            write_json(entry.folder / RECORD, vars(source))

    def remove(self, visitor: str, id: str) -> None:
        """Close a scan; its files and steps go."""
        entry = self.get(visitor, id)
        with entry.lock, self._lock:
            self._of(visitor).pop(id, None)
            shutil.rmtree(entry.folder, ignore_errors=True)

    def known(self, visitor: str) -> bool:
        """Whether a visitor has, or had before a kill, any scan here."""
        return visitor in self._visitors or self._state.visitor(visitor).is_dir()

    def _of(self, visitor: str) -> dict[str, Entry]:
        if visitor not in self._visitors:
            folder = self._state.visitor(visitor) / "scans"
            found = [_saved(each) for each in sorted(folder.iterdir(), key=_made)] if folder.is_dir() else []
            if not found and not folder.is_dir():
                # Nothing is kept of those who only look.
                return self._visitors.setdefault(visitor, {}) if len(self._visitors) < 10_000 else {}
            self._visitors[visitor] = {entry.id: entry for entry in found if entry is not None}
        return self._visitors[visitor]

    def _open(self, entry: Entry, scan: Scan) -> Session:
        from lexiseg.session import Session
        from lexiseg.session.journal import Journal

        journal = Journal(entry.folder / STEPS)
        steps, damaged = journal.read()

        def record(step: Mapping[str, Any]) -> None:
            journal.append(step)
            entry.version += 1

        models = self._models.get(entry.source.preset or None)
        session = Session(models, scan, encodings=self._models.encodings, record=record)
        if damaged:
            entry.notes.append(f"{damaged} saved changes were damaged on the disk and are left out")
        try:
            session.replay(steps)
        except ValueError as error:
            raise UnreadableScan(f"{entry.source.name}: its saved changes cannot be done again ({error})") from error
        entry.version = max(entry.version, len(steps))
        entry.size = _bytes_of(scan)
        return session

    def _put_aside(self, newest: Entry) -> None:
        """Close sessions in memory, the least recently used first, while they take too much; the disk has them."""
        with self._lock:
            entries = [each for scans in self._visitors.values() for each in scans.values() if each.session is not None]
        total = sum(each.size for each in entries)
        for entry in sorted(entries, key=lambda each: each.used):
            if total <= self._limits.open_bytes:
                return
            if entry is newest or not entry.lock.acquire(blocking=False):
                continue
            try:
                entry.session = None
                total -= entry.size
            finally:
                entry.lock.release()


def _saved(folder: Path) -> Entry | None:
    """A scan that an earlier process saved; None where it was killed before it had, and where it cannot be read."""
    try:
        return Entry(folder.name, Source.from_dict(json.loads((folder / RECORD).read_text("utf-8"))), folder)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # Its upload and its edits may be whole, so they stay for a person to look at.
        logger.warning(
            "a saved scan is left out: its %s cannot be read (%s); its files stay as they are",
            RECORD,
            type(error).__name__,
        )
    return None


def _made(folder: Path) -> float:
    record = folder / RECORD
    return record.stat().st_mtime if record.exists() else 0.0


def _bytes_of(scan: Scan) -> int:
    from lexiseg.values.scans import Image

    values = scan.pixels if isinstance(scan, Image) else scan.values
    # The masks of a few targets are as large as this again.
    return int(values.nbytes) + 4 * int(values[..., 0].size if values.ndim == 4 else values.size)

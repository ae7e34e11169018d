"""Many scans for people to look through: which are doubtful, who looks at which, and what they say."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lexiseg.errors import LexisegError, UsageError
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.review import Review, doubt, items_of
from lexiseg.runs.table import RESULTS_NAME, Row, read_results
from lexiseg.serve.problems import Refused, not_found
from lexiseg.serve.settings import ServeSettings

if TYPE_CHECKING:
    from lexiseg.serve.models import Models
    from lexiseg.session import Session
    from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

LEASE = 600.0
"""Seconds for which a scan stays with who opened it last, after the last thing that was done with it."""
DEFAULT_RESULTS = Path("lexiseg-results")


@dataclass
class _Lease:
    visitor: str
    until: float


class Worklist:
    """The scans of a folder or of a finished run, looked through by people.

    Where phrases are given, the scans are segmented in the background, as `lexiseg segment --resume` does; what an
    earlier run of the same settings has done is taken as it is. Without phrases a finished run is looked through.

    Args:
        settings: of the server.
        models: of the server.

    Raises:
        UsageError: neither phrases nor a finished run, or the folder cannot be used.
    """

    def __init__(self, settings: ServeSettings, models: Models) -> None:
        self._models = models
        self.results = settings.results or DEFAULT_RESULTS
        self._phrases = settings.phrases
        finished = (self.results / RESULTS_NAME).is_file()
        if not self._phrases and not finished and settings.manifest is None:
            raise UsageError(
                f"{self.results}: there is no {RESULTS_NAME} to look through; give --text to segment the scans first"
            )
        self._runs = bool(self._phrases) or not finished
        if self._runs:
            inputs = [] if settings.folder is None else [settings.folder]
            self.items = gather_items(inputs, manifest=settings.manifest, phrases=self._phrases)
            check_folder(self.results, self.items, resume=True)
        else:
            base = settings.folder or Path()
            self.items = items_of(read_results(self.results / RESULTS_NAME), base)
        self.review = Review(self.results)
        self._by_id = {item.id: item for item in self.items}
        self.error = ""
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._stopping = False
        self._bad: set[int] = set()
        self._undecided: dict[str, float] = {}
        self._rows: dict[str, list[Row]] = {}
        self._seen: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Segment in the background what is not done yet."""
        if self._runs:
            self._thread = threading.Thread(target=self._segment, name="worklist", daemon=True)
        else:
            self._thread = threading.Thread(target=self._look_through, name="worklist", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop segmenting after the scan that is worked on; a later start goes on from there."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(timeout=5)

    def item(self, number: int) -> RunItem:
        """The scan of a number.

        Raises:
            Refused: there is none.
        """
        if not 0 <= number < len(self.items):
            raise not_found("scan in the worklist")
        return self.items[number]

    def unreadable(self, number: int) -> None:
        """A scan turned out to be unreadable: it is not handed out any more."""
        with self._lock:
            self._bad.add(number)

    def of(self, id: str) -> RunItem | None:
        """The scan of an id."""
        return self._by_id.get(id)

    def told(self, visitor: str) -> dict[str, Any]:
        """The whole list, doubtful first."""
        rows, now = self._table(), time.monotonic()
        items = [
            self._told(number, item, rows.get(item.id, []), visitor, now) for number, item in enumerate(self.items)
        ]
        items.sort(key=lambda each: (each["state"] == "failed", -(each["doubt"] or 0.0), each["id"]))
        done = sum(each["state"] in ("accepted", "corrected", "rejected") for each in items)
        return {
            "items": items,
            "done": done,
            "total": len(items),
            "segmented": sum(item.id in rows for item in self.items),
            "results": self.results.name,
            "error": self.error,
        }

    def next(self, visitor: str) -> int | None:
        """Lease the most doubtful scan that nobody looked at or looks at; None where there is none."""
        for each in self.told(visitor)["items"]:
            if each["state"] == "todo" and not each["taken_by_other"] and each["segmented"]:
                number = int(each["id"])
                if self.lease(self.items[number].id, visitor):
                    return number
        return None

    def lease(self, id: str, visitor: str) -> bool:
        """Take a scan, or keep it; False where somebody else has it."""
        with self._lock:
            held = self._leases.get(id)
            if held is not None and held.visitor != visitor and held.until > time.monotonic():
                return False
            self._leases[id] = _Lease(visitor, time.monotonic() + LEASE)
            return True

    def renew(self, id: str, visitor: str) -> None:
        """Keep a scan that the visitor has; nothing happens where it has it no more."""
        with self._lock:
            if (held := self._leases.get(id)) is not None and held.visitor == visitor:
                held.until = time.monotonic() + LEASE

    def hold(self, id: str, visitor: str) -> None:
        """Take a scan, or keep it.

        Raises:
            Refused: somebody else has it.
        """
        if not self.lease(id, visitor):
            raise Refused(409, "somebody else is looking at this scan; take the next one")

    def free(self, id: str, visitor: str) -> None:
        """Give a scan back."""
        with self._lock:
            if (held := self._leases.get(id)) is not None and held.visitor == visitor:
                del self._leases[id]

    def fill(self, session: Session, item: RunItem, scan: Scan) -> None:
        """Put what the run found, or a person left, into a new session.

        Raises:
            UnreadableScan: a mask cannot be read.
        """
        from lexiseg.session.target import Found

        for row in self._table().get(item.id, []):
            mask = self.review.mask(item, row.text, scan)
            if mask is None:
                mask = np.zeros(scan.shape, np.bool_)
            found = Found.of_mask(
                row.text,
                mask,
                preset=row.preset,
                presence=_cell(row.presence),
                confidence=_cell(row.confidence),
                known=row.verdict != "unknown",
            )
            session.take(found)

    def say(self, item: RunItem, verdict: str, seconds: float, session: Session) -> dict[str, Any]:
        """Take a verdict; what was accepted and yet edited was corrected.

        Raises:
            UsageError: no such verdict.
            UnwritableResult: it could not be saved.
        """
        edited = session.can_undo and any(target.edited for target in session.all_targets())
        if verdict == "accepted" and edited:
            verdict = "corrected"
        empty = np.zeros(session.scan.shape, np.bool_)
        masks = {phrase: session.mask(phrase) if phrase in session.targets else empty for phrase in item.phrases}
        said = self.review.say(item, verdict, seconds, masks, session.scan)
        return {"state": said.review, "seconds": said.seconds}

    def _told(self, number: int, item: RunItem, rows: list[Row], visitor: str, now: float) -> dict[str, Any]:
        said = self.review.verdict(item.id)
        failed = bool(item.error) or number in self._bad or any(not row.ok for row in rows)
        with self._lock:
            held = self._leases.get(item.id)
        sure = [row for row in rows if row.ok]
        return {
            "id": str(number),
            "name": item.id,
            "state": said.review if said else ("failed" if failed else "todo"),
            "segmented": bool(rows),
            "presence": _lowest(row.presence for row in sure),
            "confidence": _lowest(row.confidence for row in sure),
            "verdict": "; ".join(f"{row.text}: {row.verdict}" for row in sure) if len(sure) > 1 else
            (sure[0].verdict if sure else ""),
            "seconds": said.seconds if said else None,
            "doubt": round(doubt(rows, self._threshold(), self._undecided.get(item.id, 0.0)), 4) if rows else None,
            "error": item.error or next((row.error for row in rows if not row.ok), ""),
            "taken_by_other": held is not None and held.visitor != visitor and held.until > now,
            "mine": held is not None and held.visitor == visitor and held.until > now,
        }  # fmt: skip

    def _threshold(self) -> float | None:
        return self._models.presets[self._models.default].threshold

    def _table(self) -> dict[str, list[Row]]:
        """results.csv, read again where it changed."""
        path = self.results / RESULTS_NAME
        try:
            status = path.stat()
        except OSError:
            return {}
        stamp = status.st_mtime_ns, status.st_size
        with self._lock:
            if stamp != self._seen:
                self._rows, self._seen = self.review.rows(), stamp
            return self._rows

    def _segment(self) -> None:
        from lexiseg.runs.batch import internal_error, run_batch
        from lexiseg.runs.segment import RunOptions, RunProgress

        def going(progress: RunProgress) -> None:
            if self._stopping:
                raise _Stopped

        try:
            pipeline = self._models.get().real()
            run_batch(pipeline, self.items, self.results, phrases=self._phrases, options=RunOptions(resume=True),
                      progress=going)  # fmt: skip
            self._settle()
        except _Stopped:
            return
        except LexisegError as error:
            self.error = " ".join(str(error).split())
            logger.warning("the worklist is not segmented: %s", self.error)
        except Exception as error:  # noqa: BLE001  (the list is there all the same)
            self.error = internal_error(error)
            logger.warning("the worklist is not segmented: %s", self.error)

    def _look_through(self) -> None:
        """Of a finished run: its verdicts into the table, and which masks are undecided."""
        self._settle()
        for item in self.items:
            if self._stopping:
                return
            self._undecided[item.id] = self.review.uncertainty(item)

    def _settle(self) -> None:
        try:
            self.review.settle()
        except LexisegError as error:
            logger.warning("%s", error)


class _Stopped(BaseException):
    """The server stops: no scan's failure."""


def _lowest(cells: Any) -> float | None:
    values = [value for value in map(_cell, cells) if not math.isnan(value)]
    return min(values) if values else None


def _cell(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

"""Many scans for people to look through: which are doubtful, who looks at which, and what they say."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lexiseg.errors import LexisegError, UnreadableScan, UsageError
from lexiseg.io.names import RESULTS_NAME, printable
from lexiseg.runs.finished import OTHER_FILE, finished_items, record_of, threshold_of
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.review import Review, doubt
from lexiseg.runs.reviews import KEEPING, only_review
from lexiseg.runs.table import Row
from lexiseg.serve.leases import Leases
from lexiseg.serve.problems import Refused, advised, is_full, not_found
from lexiseg.serve.settings import ServeSettings
from lexiseg.serve.verdicts import masks_to_keep

if TYPE_CHECKING:
    from lexiseg.serve.models import Models
    from lexiseg.session import Session
    from lexiseg.values.arrays import BoolArray
    from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

DEFAULT_RESULTS = Path("lexiseg-results")


class Worklist:
    """The scans of a folder or of a finished run, looked through by people.

    Where phrases are given, the scans are segmented in the background, as `lexiseg segment --resume` does; what an
    earlier run of the same settings has done is taken as it is. Without phrases a finished run is looked through.

    Args:
        settings: of the server.
        models: of the server.

    Attributes:
        leases: who has which scan.

    Raises:
        UsageError: neither phrases nor a finished run, or the folder cannot be used; another server goes through it.
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
            self.items = _gathered(inputs, settings)
            check_folder(self.results, self.items, resume=True)
        else:
            self._record = record_of(self.results)
            self.items = finished_items(self.results, settings.folder or Path())
        self._held = ExitStack()
        self._held.enter_context(only_review(self.results))
        self.review = Review(self.results)
        self.leases = Leases()
        self._by_id = {item.id: item for item in self.items}
        self.error = ""
        self._lock = threading.Lock()
        self._stopping = False
        self._bad: dict[int, str] = {}
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
        """Stop segmenting after the scan that is worked on, and let go of the review; a later start goes on there."""
        self._stopping = True
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._held.close()

    def item(self, number: int) -> RunItem:
        """The scan of a number.

        Raises:
            Refused: there is none.
        """
        if not 0 <= number < len(self.items):
            raise not_found("scan in the worklist")
        return self.items[number]

    def unreadable(self, number: int, error: str) -> None:
        """A scan turned out to be unreadable, and why: it is not handed out any more."""
        with self._lock:
            self._bad[number] = " ".join(error.split())

    def of(self, id: str) -> RunItem | None:
        """The scan of an id."""
        return self._by_id.get(id)

    def told(self, visitor: str) -> dict[str, Any]:
        """The whole list, doubtful first."""
        table = self._table()
        rows = {item.id: _rows_of(item, table) for item in self.items}
        items = [self._told(number, item, rows[item.id], visitor) for number, item in enumerate(self.items)]
        items.sort(key=lambda each: (each["state"] == "failed", -(each["doubt"] or 0.0), each["id"]))
        done = sum(each["state"] in ("accepted", "corrected", "rejected") for each in items)
        return {
            "items": items,
            "done": done,
            "total": len(items),
            "segmented": sum(map(bool, rows.values())),
            "results": self.results.name,
            "error": self.error,
        }

    def next(self, visitor: str, *, another: bool = False) -> int | None:
        """Lease the most doubtful scan that nobody looked at, and nobody else looks at; None where there is none.

        Args:
            visitor: who asks.
            another: pass over what the visitor has already.
        """
        for each in self.told(visitor)["items"]:
            taken = each["taken_by_other"] or (another and each["mine"])
            if each["state"] == "todo" and not taken and each["segmented"]:
                number = int(each["id"])
                if self.leases.take(self.items[number].id, visitor):
                    return number
        return None

    def run_of(self, item: RunItem) -> str:
        """A fingerprint of the run and of a scan's files: another one tells that a session is of something else."""
        files = [(str(path.resolve()), *_stamp(path)) for path in item.source.files]
        return _digest([str(self.results.resolve()), item.id, list(item.phrases), files])

    def seen_of(self, item: RunItem) -> str:
        """A fingerprint of the run's answer to a scan and of its last verdict: what a reviewer is shown.

        Raises:
            Refused: the models have not answered yet.
            UnreadableScan: the run failed on the scan.
        """
        said = self.review.verdict(item)
        rows = [replace(row, reviewed="", review="", review_seconds="").to_line() for row in self._answer(item)]
        return _digest([rows, said.number if said else 0])

    def fill(self, session: Session, item: RunItem, scan: Scan) -> None:
        """Put what the run found, or a person left, into a new session.

        Raises:
            Refused: the models have not answered yet.
            UnreadableScan: a mask cannot be read, or is not there although the run found something.
        """
        from lexiseg.session.target import Found

        for phrase, row in zip(item.phrases, self._answer(item), strict=True):
            mask = self.review.mask(item, phrase, scan)
            if mask is None and row.verdict == "present":
                raise UnreadableScan(
                    f"{item.id}: the run found {phrase!r}, but there is no mask of it in {self.results.name} that can "
                    "be read; segment it again with --format png,nifti"
                )
            if mask is None:
                mask = np.zeros(scan.shape, np.bool_)
            found = Found.of_mask(
                phrase,
                mask,
                preset=row.preset,
                presence=_cell(row.presence),
                confidence=_cell(row.confidence),
                known=row.verdict != "unknown",
                threshold=self._threshold(),
            )
            session.take(found)

    def say(self, item: RunItem, verdict: str, seconds: float, session: Session) -> dict[str, Any]:
        """Take a verdict; what was accepted and is not what the run wrote was corrected.

        Raises:
            Refused: it would keep masks that are not those that are shown.
            UsageError: no such verdict.
            UnwritableResult: it could not be saved.
        """
        masks = masks_to_keep(session, item.phrases) if verdict in KEEPING else {}
        if verdict == "accepted" and self.review.changed(item, masks, session.scan):
            verdict = "corrected"
        said = self.review.say(item, verdict, seconds, masks, session.scan)
        note = self._settle()
        return {"state": said.review, "seconds": said.seconds, **({"note": note} if note else {})}

    def keep(self, item: RunItem, masks: Mapping[str, BoolArray], scan: Scan) -> None:
        """Take masks of a scan that another program sent; they are accepted where the run wrote the same.

        Args:
            item: the scan's.
            masks: of each phrase, bool of the scan's shape.
            scan: what they are of.

        Raises:
            Refused: the models have not answered yet.
            UnreadableScan: the run failed on the scan, or read another file.
            UnwritableResult: it could not be saved.
        """
        self._answer(item)
        word = "corrected" if self.review.changed(item, masks, scan) else "accepted"
        self.review.say(item, word, 0.0, masks, scan)
        self._settle()

    def notes(self, item: RunItem, scan: Scan) -> list[str]:
        """What a person should know of a scan before its verdict."""
        why = self.review.why_not_kept(scan)
        kept = f"no file can hold its mask ({why}), so it can only be rejected or skipped" if why else ""
        return [each for each in (self.review.aside(item), kept) if each]

    def _answer(self, item: RunItem) -> list[Row]:
        """A row for each phrase of a scan that is to be looked at."""
        if item.error:
            raise UnreadableScan(item.error)
        rows = _rows_of(item, self._table())
        same = not rows or self.review.is_same_scan(item)
        # A run that is under way does a scan again whose file was changed.
        if not rows or (not same and self._segmenting()):
            why = f" ({self.error})" if self.error else ""
            raise Refused(409, f"the models have not answered this scan yet{why}; take another one, or wait")
        failed = next((row for row in rows if not row.ok), None)
        if failed is not None:
            raise UnreadableScan(failed.error or f"{item.id}: the run failed on it")
        if not same:
            raise UnreadableScan(f"{item.shown}: {OTHER_FILE}")
        return rows

    def _told(self, number: int, item: RunItem, rows: list[Row], visitor: str) -> dict[str, Any]:
        said = self.review.verdict(item)
        failed = bool(item.error) or number in self._bad or any(not row.ok for row in rows)
        holder = self.leases.holder(item.id)
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
            "note": self.review.aside(item),
            "error": item.error or self._bad.get(number, "") or next((row.error for row in rows if not row.ok), ""),
            "taken_by_other": holder not in (None, visitor),
            "mine": holder == visitor,
        }  # fmt: skip

    def _threshold(self) -> float | None:
        own = self._models.presets[self._models.default].threshold
        return own if self._runs else threshold_of(self._record, own)

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

    def _segmenting(self) -> bool:
        return self._runs and self._thread is not None and self._thread.is_alive()

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
            self._say_aside()
            self._settle()
        except _Stopped:
            return
        except LexisegError as error:
            self.error = advised(str(error))
            logger.warning("the worklist is not segmented: %s", self.error)
        except Exception as error:  # noqa: BLE001  (the list is there all the same)
            self.error = internal_error(error)
            logger.warning("the worklist is not segmented: %s", self.error)

    def _look_through(self) -> None:
        """Of a finished run: its verdicts into the table, and which masks are undecided."""
        self._say_aside()
        self._settle()
        for item in self.items:
            if self._stopping:
                return
            self._undecided[item.id] = self.review.uncertainty(item)

    def _say_aside(self) -> None:
        if aside := sum(bool(self.review.aside(item)) for item in self.items):
            logger.warning("the worklist has %d earlier reviews that are set aside; the page says why of each", aside)

    def _settle(self) -> str:
        """Put the verdicts into results.csv; "" or why that has to wait. They are kept all the same."""
        try:
            self.review.settle()
        except LexisegError as error:
            logger.warning("%s", error)
            why = "the disk is full" if is_full(error) else "it cannot be written"
            return f"the verdict is kept, but is not in results.csv yet: {why}; the next verdict puts it there"
        return ""


class _Stopped(BaseException):
    """The server stops: no scan's failure."""


def _gathered(inputs: Sequence[Path], settings: ServeSettings) -> list[RunItem]:
    try:
        return gather_items(inputs, manifest=settings.manifest, phrases=settings.phrases)
    except UsageError as error:
        if "--series" not in str(error) and "--all-patients" not in str(error):
            raise
        raise UsageError(
            f"{error}; lexiseg serve has no such options: give them to lexiseg segment, and its results to lexiseg "
            "serve --results"
        ) from error


def _rows_of(item: RunItem, table: Mapping[str, Sequence[Row]]) -> list[Row]:
    """A row for each phrase of a scan; none until the models have answered all of them."""
    rows = table.get(item.id, [])
    if not item.phrases:
        return list(rows)
    by_text = {row.text: row for row in rows}
    texts = [printable(phrase) for phrase in item.phrases]
    return [by_text[text] for text in texts] if set(texts) <= set(by_text) else []


def _stamp(path: Path) -> tuple[int, int]:
    """A file's size and time; zeros where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _lowest(cells: Any) -> float | None:
    values = [value for value in map(_cell, cells) if not math.isnan(value)]
    return min(values) if values else None


def _cell(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

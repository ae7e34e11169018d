"""reviews.csv: what people said of a run's scans, and of which phrases, scan and masks they said it."""

from __future__ import annotations

import csv
import errno
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.runs.ledger import Ledger
from lexiseg.runs.table import append_lines, csv_line

VERDICTS = ("accepted", "corrected", "rejected", "skipped")
KEEPING = ("accepted", "corrected")
"""The verdicts that keep a scan's masks."""
LOG_NAME = "reviews.csv"
_COLUMNS = ("id", "review", "seconds", "phrases", "scan", "masks")
_HEADER = csv_line(_COLUMNS)


@dataclass(frozen=True)
class Judged:
    """What a verdict is of. Where any of it is another now, nobody has looked at that yet.

    Attributes:
        phrases: of the scan, in one cell; "" in a review of before they were written down.
        scan: a fingerprint of the scan's files as the run read them; "" where files.csv does not have them.
        masks: a fingerprint of the run's masks; "" where files.csv does not have them.
    """

    phrases: str = ""
    scan: str = ""
    masks: str = ""

    @classmethod
    def of(cls, id: str, phrases: Sequence[str], ledger: Ledger) -> Judged:
        """What a verdict on a scan would be of, as its run is now."""
        inputs, outputs = ledger.inputs(id), ledger.outputs(id)
        masks = [f"{each.file} {each.sha256}" for each in outputs if each.file.startswith(f"{safe_id(id)}_mask")]
        return cls(
            phrases="; ".join(map(printable, phrases)),
            scan=_digest(each.sha256 for each in inputs) if inputs else "",
            masks=_digest(masks) if ledger.finished(id) else "",
        )

    def unlike(self, other: Judged) -> str:
        """What of it is another there, in words; "" where nothing is."""
        if not self.phrases:
            return "of a time when it was not written down what was looked at"
        words = {"phrases": "of other phrases", "scan": "of another file", "masks": "of other masks"}
        return next((told for name, told in words.items() if getattr(self, name) != getattr(other, name)), "")


@dataclass(frozen=True)
class Verdict:
    """What a person said of a scan.

    Attributes:
        review: one of `VERDICTS`.
        seconds: how long it was looked at, in all.
        number: which verdict of the scan it is, from 1.
        of: what was looked at.
        kept: whether masks of that were kept, by this verdict or one before it.
    """

    review: str
    seconds: float
    number: int = 1
    of: Judged = field(default_factory=Judged)
    kept: bool = False

    @classmethod
    def after(cls, before: Verdict | None, review: str, seconds: float, of: Judged) -> Verdict:
        """The verdict that follows another.

        Args:
            before: the scan's last verdict; None where this is the first.
            review: one of `VERDICTS`.
            seconds: how long it was looked at, in all.
            of: what was looked at.
        """
        kept = review in KEEPING or (before is not None and before.of == of and before.kept)
        return cls(review, seconds, 1 if before is None else before.number + 1, of, kept)


@contextmanager
def only_review(folder: Path) -> Iterator[None]:
    """Hold the review of a run, so that no other process writes verdicts there: each would undo the other's.

    The operating system lets go of it when the process ends, in whatever way. Where nothing may be written, nobody's
    verdicts are kept and nothing is held.

    Args:
        folder: of the run.

    Raises:
        UsageError: another process holds it.
        UnwritableResult: the file system refused.
    """
    # Opened by one thread and let go of by another.
    lock = FileLock(folder / ".lexiseg-review.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{printable(str(folder))}: another lexiseg serve goes through these results; use that one, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UnwritableResult(f"{folder}: it cannot be held for a review ({error.strerror})") from error
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # where an open file cannot go, it stays: hidden, and held by nobody
                Path(lock.lock_file).unlink()
        lock.release()


def read_reviews(folder: Path) -> dict[str, Verdict]:
    """The last verdict on each scan; {} where there is none. One of before some columns were added has them empty.

    Raises:
        UsageError: the file cannot be read.
    """
    path = folder / LOG_NAME
    if not path.exists():
        return {}
    try:
        found: dict[str, Verdict] = {}
        for row in csv.DictReader(_whole_lines(path)):
            if row["review"] in VERDICTS:
                of = Judged(*(row.get(name) or "" for name in _COLUMNS[3:]))
                found[row["id"]] = Verdict.after(found.get(row["id"]), row["review"], float(row["seconds"]), of)
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: the earlier review cannot be read; move it away") from error


def append_review(folder: Path, id: str, verdict: Verdict) -> None:
    """Write a verdict down, and wait until it is on the disk.

    Raises:
        UnwritableResult: the file system refused; what was written before stands.
    """
    path = folder / LOG_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path) if path.exists() else []
    except OSError as error:
        raise UnwritableResult(f"{folder}: it cannot be made or read ({error.strerror})") from error
    if not lines or lines[0] != _HEADER.rstrip("\n"):
        older = [row + [""] * (len(_COLUMNS) - len(row)) for row in csv.reader(lines[1:])]
        text = _HEADER + "".join(map(csv_line, older))
        atomic_write(path, lambda file: file.write(text.encode()))
    of = verdict.of
    cells = [printable(id), verdict.review, f"{verdict.seconds:.1f}", of.phrases, of.scan, of.masks]
    append_lines(path, [csv_line(cells)])


def _whole_lines(path: Path) -> list[str]:
    """The lines of the log; one that a kill tore off is none."""
    content = path.read_text(encoding="utf-8")
    return content[: content.rfind("\n") + 1].splitlines()


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:32]

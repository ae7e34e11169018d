"""A run's folder: may it be written to, and what does it hold already."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.io.names import printable, slugs
from lexiseg.runs.items import RunItem
from lexiseg.runs.table import RESULTS_NAME, Row, read_record, read_results, refuse_other

_MASKS = ("_mask.png", "_mask.nii.gz")
_OTHERS = (
    "_labels.png",
    "_overlay.png",
    "_uncertainty.png",
    "_uncertainty.nii.gz",
    "_proposals.png",
    "_proposals.json",
)
_STAGES = ("saliency.png", "saliency.nii.gz", "region.png", "region.nii.gz", "prompts.json")
# What `atomic_write` was at when a run was killed.
_TORN = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Hold a run's folder, made if missing: of two runs at once each would lose rows of the other.

    The operating system lets go of it when the process ends, in whatever way.

    Raises:
        UsageError: another run holds it.
        UnwritableResult: the file system refuses.
    """
    lock = FileLock(out / ".lexiseg.lock", timeout=0)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{printable(str(out))}: another run is writing there; wait for its end or choose another folder"
        ) from error
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # where an open file cannot go, it stays: hidden, and held by nobody
            Path(lock.lock_file).unlink()
        lock.release()


def check_folder(out: Path, items: Sequence[RunItem]) -> None:
    """Make the results' folder and see that it can be written to, before any model is loaded.

    Raises:
        UnwritableResult: the file system refuses.
        UsageError: another run is writing there, or it holds masks of these scans' names that no run wrote,
            such as a data set's own truth.
    """
    with only_run(out):
        try:
            with tempfile.TemporaryFile(dir=out):
                pass
            present = set(os.listdir(out))  # noqa: PTH208  (names alone: a folder may hold a million)
        except OSError as error:
            raise _unwritable(out, error) from error
        if RESULTS_NAME in present:
            for name in filter(_TORN.fullmatch, present):
                (out / name).unlink(missing_ok=True)
            return
    for item in items:
        for ending in ("_mask.png", "_mask.nii.gz"):
            if item.name + ending in present:
                raise UsageError(
                    f"{printable(str(out))}: {item.name}{ending} is there and no run of lexiseg wrote it; "
                    "choose another folder"
                )


def _unwritable(out: Path, error: OSError) -> UnwritableResult:
    return UnwritableResult(
        f"{printable(str(out))}: results cannot be written there ({error.strerror}); choose another folder"
    )


@dataclass(frozen=True)
class Earlier:
    """What a run's folder holds already.

    Attributes:
        rows: by scan.
        done: the scans that need no more work.
    """

    rows: dict[str, list[Row]]
    done: set[str]

    def in_order(self, items: Sequence[RunItem]) -> list[Row]:
        """Rows in the items' order, then those of other scans in theirs."""
        asked = [item.id for item in items if item.id in self.rows]
        known = set(asked)
        others = [name for name in self.rows if name not in known]
        return [row for name in (*asked, *others) for row in self.rows[name]]


def earlier_rows(
    out: Path, items: Sequence[RunItem], settings: dict[str, Any], *, resume: bool
) -> tuple[Earlier, dict[str, Any]]:
    """What an earlier run of the folder has done that need not be done again, and its record ({} if none).

    Raises:
        UsageError: its settings or weights were others, or its table cannot be read.
    """
    table = out / RESULTS_NAME
    if not table.exists():
        return Earlier({}, set()), {}
    rows: dict[str, list[Row]] = {}
    for row in read_results(table) if resume else ():
        rows.setdefault(row.id, []).append(row)
    if not rows:
        return Earlier({}, set()), {}
    before = read_record(out)
    refuse_other(before, settings, out)
    done = {item.id for item in items if item.id in rows and _is_done(item, rows[item.id], out)}
    again = {item.id for item in items} - done
    kept = {name: found for name, found in rows.items() if name not in again}
    return Earlier(kept, done), before or {}


def _is_done(item: RunItem, rows: Sequence[Row], out: Path) -> bool:
    return (
        tuple(row.text for row in rows) == item.phrases
        and all(row.ok and row.image == item.shown for row in rows)
        and has_mask(out, item.name)
    )


def has_mask(folder: Path, name: str) -> bool:
    """Whether a scan's mask is there."""
    return any((folder / f"{name}{ending}").is_file() for ending in _MASKS)


def remove_outputs(folder: Path, name: str, phrases: Sequence[str]) -> None:
    """Remove what an earlier run of the same folder wrote for a scan that now fails: it would pass for new.

    Raises:
        UnwritableResult: the file system refused.
    """
    stems = [name, *(f"{name}_{slug}" for slug in slugs(phrases))]
    names = [f"{name}{ending}" for ending in (*_MASKS, *_OTHERS)]
    names += [f"{stem}_{ending}" for stem in stems for ending in _STAGES]
    try:
        for each in names:
            (folder / each).unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableResult(f"{folder}: an earlier file of {name} cannot be removed ({error.strerror})") from error

"""A run's folder: may it be written to, what does it hold already, and what of that goes.

A run owns its folder. Each file in it belongs to a row of results.csv, or is removed before the first scan of
the next run: another run's mask or picture would pass for this one's. What no run wrote, or what somebody
changed since, is never overwritten or removed: the run is refused.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lexiseg.datasets.exports import EXPORT_NAMES
from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import remove_torn
from lexiseg.io.names import OUTPUT_SUFFIXES, RESULTS_NAME, printable, safe_id, slugs
from lexiseg.runs.items import RunItem
from lexiseg.runs.ledger import FILES_NAME, RUN, Ledger, State, read_ledger, write_ledger
from lexiseg.runs.partial import ENDING
from lexiseg.runs.table import RECORD_NAME, Row, read_record, read_results, refuse_other, write_results

logger = logging.getLogger(__name__)

GRIDS = (".png", ".nii.gz", ".nrrd")
"""Ends of files that hold arrays on the scan's own grid."""
_STEMS = ("labels.png", "overlay.png", "proposals.png", "proposals.json")
_ONCE = (ENDING, *_STEMS, *(f"uncertainty{end}" for end in GRIDS))
_OF_A_PHRASE = ("prompts.json", *(f"{kind}{end}" for kind in ("saliency", "region") for end in GRIDS))


def output_names(name: str, own: Sequence[str] = ()) -> list[str]:
    """Every name that a file of one scan may have.

    Args:
        name: the scan's.
        own: its phrases' slugs, where there are several.
    """
    own = own if len(own) > 1 else ()
    masks = [f"{name}_mask{slug}{end}" for slug in ("", *(f"_{each}" for each in own)) for end in OUTPUT_SUFFIXES]
    stems = [f"{name}_{each}" for each in own] or [name]
    stages = [f"{stem}_{end}" for stem in stems for end in _OF_A_PHRASE]
    return [*masks, *(f"{name}_{end}" for end in _ONCE), *stages]


@contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Hold a run's folder, made if missing: of two runs at once each would lose rows of the other.

    The operating system lets go of it when the process ends, in whatever way.

    Raises:
        UsageError: another run holds it, or it is a file.
        UnwritableResult: the file system refuses.
    """
    if out.is_file():
        raise UsageError(f"{printable(str(out))}: it is a file; expected a folder")
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


def check_folder(
    out: Path, items: Sequence[RunItem], *, resume: bool | None = None, exports: Sequence[str] = ()
) -> None:
    """Make the results' folder and see that it can be written to, before any model is loaded.

    Args:
        out: the folder.
        items: of the run.
        resume: see `RunOptions`; None where that is decided later.
        exports: names of files and folders that are of all scans together.

    Raises:
        UnwritableResult: the file system refuses.
        UsageError: another run is writing there, or it holds files of these scans' names that no run wrote,
            such as a data set's own truth, or that were changed since.
    """
    with only_run(out):
        try:
            with tempfile.TemporaryFile(dir=out):
                pass
            remove_torn(out)
            holdings = _Holdings.of(out)
        except OSError as error:
            raise _unwritable(out, error) from error
        holdings.refuse_foreign(items)
        holdings.refuse_foreign_exports(exports)
        if resume is not None:
            wanted = [RUN, *(item.id for item in items)] if resume else holdings.ids
            holdings.refuse_changed(wanted)


def _unwritable(out: Path, error: OSError) -> UnwritableResult:
    return UnwritableResult(
        f"{printable(str(out))}: results cannot be written there ({error.strerror}); choose another folder"
    )


@dataclass(frozen=True)
class Earlier:
    """What a run's folder holds that is kept.

    Attributes:
        rows: by scan.
        done: the scans that need no more work.
        record: run.json of the run that is resumed; {} where none is.
    """

    rows: dict[str, list[Row]]
    done: set[str]
    record: dict[str, Any]

    def in_order(self, items: Sequence[RunItem]) -> list[Row]:
        """Rows in the items' order, then those of other scans in theirs."""
        asked = [item.id for item in items if item.id in self.rows]
        known = set(asked)
        others = [name for name in self.rows if name not in known]
        return [row for name in (*asked, *others) for row in self.rows[name]]


def take_over(out: Path, items: Sequence[RunItem], settings: dict[str, Any], *, resume: bool) -> Earlier:
    """Make the folder this run's: what is kept of an earlier one stays, all its other files go.

    Without `resume` nothing is kept. With it, scans that are done are, and rows of scans that are not asked
    now. A scan is done where its phrases are the same, and its own file and all that was written of it are
    what they were.

    Args:
        out: the folder, held by this run.
        items: of the run.
        settings: see `settings_record`.
        resume: see `RunOptions`.

    Raises:
        UsageError: the earlier run's settings or weights were others, a table cannot be read, or a file of
            these scans' names is none of lexiseg's or was changed since.
        UnwritableResult: the file system refused.
    """
    holdings = _Holdings.of(out)
    holdings.refuse_foreign(items)
    rows: dict[str, list[Row]] = {}
    done: set[str] = set()
    before: dict[str, Any] = {}
    if resume and holdings.rows:
        record = read_record(out)
        refuse_other(record, settings, out)
        before = record or {}
        done = {item.id for item in items if holdings.is_done(item)}
        again = {item.id for item in items} - done
        rows = {scan: found for scan, found in holdings.rows.items() if scan not in again}
    gone = [scan for scan in holdings.ids if scan not in rows]
    holdings.refuse_changed(gone)
    if resume:
        holdings.say_what_changed(gone)
    # Slices of a volume that a kill interrupted are taken up again, or, where the volume was done meanwhile, go.
    halves = [scan for scan in gone if holdings.half(scan)] if resume else []
    holdings.remove_halves(rows)
    # The files first: files without a row would belong to nobody after a kill.
    removed = holdings.remove(gone, but=holdings.half_names(halves))
    if removed and not resume:
        scans = sum(scan != RUN for scan in gone)
        told = f"files of an earlier run are removed: {removed}, of {scans} scans; --resume would have kept them"
        logger.warning("%s: %s", printable(str(out)), told)
    earlier = Earlier(rows, done, before)
    write_results(out / RESULTS_NAME, earlier.in_order(items))
    write_ledger(out, holdings.ledger.only((*rows, *halves)))
    return earlier


@dataclass(frozen=True)
class _Holdings:
    """What lies in a run's folder.

    Attributes:
        folder: it.
        present: the names in it.
        rows: of results.csv, by scan.
        ledger: of files.csv.
    """

    folder: Path
    present: frozenset[str]
    rows: dict[str, list[Row]]
    ledger: Ledger

    @classmethod
    def of(cls, folder: Path) -> _Holdings:
        present = frozenset(os.listdir(folder))  # noqa: PTH208  (names alone: a folder may hold a million)
        rows: dict[str, list[Row]] = {}
        if RESULTS_NAME in present:
            for row in read_results(folder / RESULTS_NAME):
                rows.setdefault(row.id, []).append(row)
        elif own := sorted(present & {FILES_NAME, RECORD_NAME}):
            raise UsageError(
                f"{printable(str(folder))}: {own[0]} is there but no {RESULTS_NAME}; choose another folder or move "
                "it away"
            )
        return cls(folder, present, rows, read_ledger(folder))

    @property
    def ids(self) -> list[str]:
        """Scans of which an earlier run wrote something, or meant to."""
        return list(dict.fromkeys((*self.rows, *self.ledger.entries)))

    def names(self, id: str) -> list[str]:
        """The files of a scan: those that were recorded; where it was not finished, all that it may have."""
        listed = self.ledger.names(id)
        if listed is not None:
            return [*listed, *(self.half_names([id]) & self.present)]
        if id == RUN:
            return [name for name in self.ledger.slugs.get(RUN, ()) if name in EXPORT_NAMES]
        own = self.ledger.slugs.get(id) or slugs([row.text for row in self.rows.get(id, ())])
        return [name for name in output_names(safe_id(id), own) if name in self.present]

    def is_done(self, item: RunItem) -> bool:
        rows = self.rows.get(item.id, ())
        return (
            bool(rows)
            and tuple(row.text for row in rows) == item.phrases
            and all(row.ok and row.image == item.shown for row in rows)
            and self.ledger.finished(item.id)
            and self.ledger.inputs_are_same(item.id, item.source.files)
            and all(state is State.SAME for state in self.ledger.states(item.id, self.folder).values())
        )

    def refuse_foreign(self, items: Iterable[RunItem]) -> None:
        owned = set(self.ids)
        for item in items:
            if item.id in owned:
                continue
            for name in output_names(item.name, slugs(item.phrases)):
                if name in self.present:
                    raise UsageError(
                        f"{printable(str(self.folder))}: {name} is there and no run of lexiseg wrote it; "
                        "choose another folder"
                    )

    def refuse_foreign_exports(self, names: Iterable[str]) -> None:
        owned = {name.partition("/")[0] for name in self.names(RUN)}
        for name in names:
            if name in self.present and name not in owned:
                raise UsageError(
                    f"{printable(str(self.folder))}: {name} is there and no run of lexiseg wrote it; "
                    "choose another folder"
                )

    def refuse_changed(self, ids: Iterable[str]) -> None:
        for scan in ids:
            for name, state in self.ledger.states(scan, self.folder).items():
                if state is State.CHANGED:
                    raise UsageError(
                        f"{printable(str(self.folder))}: {name} was changed after its run wrote it; move it away "
                        "or choose another folder"
                    )

    def say_what_changed(self, ids: Iterable[str]) -> None:
        """One line on scans that had been done and are not any more."""
        lost = [
            scan
            for scan in ids
            if scan != RUN and self.ledger.finished(scan) and all(row.ok for row in self.rows.get(scan, ()))
        ]
        if lost:
            told = (
                "scans are done again, since they or what was written of them is not what it was: "
                f"{len(lost)}, the first is {lost[0]}"
            )
            logger.warning("%s: %s", printable(str(self.folder)), told)

    def half(self, id: str) -> bool:
        """Whether there are slices of a scan that was not finished."""
        return f"{safe_id(id)}_{ENDING}" in self.present

    def half_names(self, ids: Iterable[str]) -> set[str]:
        """The files of such slices."""
        return {f"{safe_id(scan)}_{ENDING}" for scan in ids}

    def remove_halves(self, ids: Iterable[str]) -> None:
        """Remove the slices of scans that are done: a kill came before they could go."""
        _remove(self.folder, sorted(self.half_names(ids) & self.present))

    def remove(self, ids: Iterable[str], *, but: Collection[str] = ()) -> int:
        names = [name for scan in ids for name in self.names(scan) if self._is_own(name) and name not in but]
        _remove(self.folder, names)
        return len(names)

    def _is_own(self, name: str) -> bool:
        """Whether a listed file lies in the folder itself, or in a data set that a run made there."""
        top, _, rest = name.partition("/")
        if top not in self.present:
            return False
        if not rest:
            return True
        place = self.folder / top
        return (
            top in EXPORT_NAMES
            and not place.is_symlink()
            and (self.folder / name).parent.resolve().is_relative_to(place.resolve())
            and os.path.lexists(self.folder / name)
        )


def has_mask(folder: Path, name: str) -> bool:
    """Whether a scan's mask is there."""
    return any((folder / f"{name}_mask{end}").is_file() for end in GRIDS)


def remove_outputs(folder: Path, name: str, phrases: Sequence[str]) -> None:
    """Remove what was written of a scan that then failed.

    Raises:
        UnwritableResult: the file system refused.
    """
    _remove(folder, output_names(name, slugs(phrases)))


def _remove(folder: Path, names: Iterable[str]) -> None:
    parents: set[Path] = set()
    for name in names:
        path = folder / name
        try:
            if path.is_dir() and not path.is_symlink():
                # A data set that was announced, and not finished.
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UnwritableResult(f"{folder}: the earlier {name} cannot be removed ({error.strerror})") from error
        parents.update(place for place in path.parents if place != folder and place.is_relative_to(folder))
    for place in sorted(parents, key=lambda each: -len(each.parts)):
        with suppress(OSError):  # somebody put a file there: it stays
            place.rmdir()

"""A suite from its file to its leaderboard: what is missing is run, everything is scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lexiseg.benchmark.cells import (
    WORDING,
    Cell,
    Grid,
    SelectedScans,
    items_of,
    make_grid,
    refuse_unmatched,
    scan_digest,
    select_scans,
    spread,
    wanted,
)
from lexiseg.benchmark.leaderboard import Leaderboard, make_leaderboard
from lexiseg.benchmark.record import CellState, begin_cell, cell_settings, cell_state
from lexiseg.benchmark.suite import GENERIC, Suite, SuiteSystem, load_suite
from lexiseg.benchmark.wording import answered, run_wording, with_target
from lexiseg.benchmark.writing import refuse_folder, write_leaderboard
from lexiseg.errors import LexisegError, UsageError
from lexiseg.io.names import printable
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import RunItem
from lexiseg.runs.ledger import State, read_ledger
from lexiseg.runs.segment import Pipeline, RunOptions, RunProgress
from lexiseg.runs.table import read_results

logger = logging.getLogger(__name__)

Tell = Callable[[RunProgress], None]
Fetched = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """What to run, and where.

    Attributes:
        suite: the YAML file.
        data: the folder that the sets' manifests are relative to.
        out: where cells and the leaderboard go.
        limit: at most so many scans of each set.
        only: "SET/PRESET" or "SET", with * for any; () for everything.
        resume: keep what an earlier run of the same `out` has done, where it still counts.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        batch: see `lexiseg.runs.segment.RunRequest`; it is part of the settings that results are kept by.
        command: for the leaderboard: how to run it again.
        date: for the leaderboard; "" leaves the line out, and equal runs give equal bytes.
        seconds: put measured times in, which no two runs have in common.
    """

    suite: Path
    data: Path
    out: Path
    limit: int | None = None
    only: Sequence[str] = ()
    resume: bool = True
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    command: str = ""
    date: str = ""
    seconds: bool = True


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """How a benchmark ended.

    Attributes:
        leaderboard: what it found.
        written: its files, leaderboard.md first.
        cells: of the suite, as far as asked for.
        ran: those of them in which this session had something to do.
        failed: scans that this session tried and that failed.
        unavailable: presets whose models cannot be had, and why.
    """

    leaderboard: Leaderboard
    written: tuple[Path, ...]
    cells: int
    ran: int
    failed: int
    unavailable: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every cell could be run and every scan of it was answered."""
        return not self.unavailable and self.leaderboard.complete


@dataclass(frozen=True)
class _Work:
    """A cell with its scans, and what is done of it."""

    cell: Cell
    items: tuple[RunItem, ...]
    settings: Mapping[str, Any]
    digests: Mapping[str, str]
    state: CellState

    @property
    def missing(self) -> list[RunItem]:
        return [item for item in self.items if item.id not in self.state.done]


def run_benchmark(
    request: BenchmarkRequest,
    *,
    progress: Tell | None = None,
    fetched: Fetched | None = None,
    scoring: Callable[[int, int], None] | None = None,
) -> BenchmarkSummary:
    """Run the cells of a suite that are missing, score all of them and write the leaderboard.

    A scan of a cell is done when it was answered with the same settings, weights, seed, phrase and content;
    all else is done again. Cells grow scan by scan, so that a killed run loses one scan at most. Whatever can
    be wrong with the suite is told before the first scan: that needs each preset's models, one at a time.

    Args:
        request: see `BenchmarkRequest`.
        progress: called with how far the missing scans are.
        fetched: told (file, bytes done, bytes in all) while a model is fetched.
        scoring: told how many of how many scans are scored.

    Raises:
        UsageError: the suite, the data folder or a wish is wrong, `out` is a file or holds files of a leaderboard's
            names that no benchmark wrote, or a mask of a cell was changed since.
        UnwritableResult: the file system refused.
    """
    from lexiseg.models.loading import resolve_device

    suite = load_suite(request.suite)
    refuse_unmatched(suite, request.only)
    resolve_device(request.device)
    if not request.data.is_dir():
        raise UsageError(f"{printable(str(request.data))}: no such folder; expected the sets' data")
    manifests = [request.data / chosen.manifest for chosen in suite.sets.values()]
    refuse_folder(request.out, inputs=[request.suite, *manifests])
    scans = _select(suite, request)
    grid = make_grid(suite, scans, request.only)
    works, unavailable = _plan(suite, grid, scans, request, fetched)
    ran, failed = _run_missing(suite, works, request, progress)
    leaderboard = make_leaderboard(
        suite,
        scans,
        [(work.cell, work.cell.folder(request.out), [item.id for item in work.items]) for work in works],
        notes=[*grid.without, *unavailable],
        seconds=request.seconds,
        command=request.command,
        date=request.date,
        progress=scoring,
    )
    written = write_leaderboard(leaderboard, request.out)
    return BenchmarkSummary(
        leaderboard=leaderboard,
        written=tuple(written),
        cells=len(grid.cells),
        ran=ran,
        failed=failed,
        unavailable=tuple(unavailable),
    )


def _select(suite: Suite, request: BenchmarkRequest) -> dict[str, SelectedScans]:
    limits = [each for each in (request.limit, suite.limit) if each is not None]
    limit = min(limits) if limits else None
    return {
        name: select_scans(chosen, request.data, limit=limit)
        for name, chosen in suite.sets.items()
        if any(wanted(name, system, request.only) for system in suite.systems)
    }


def _plan(
    suite: Suite,
    grid: Grid,
    scans: Mapping[str, SelectedScans],
    request: BenchmarkRequest,
    fetched: Fetched | None,
) -> tuple[list[_Work], list[str]]:
    """Every cell with its state, and the systems whose models cannot be had."""
    works: list[_Work] = []
    unavailable: list[str] = []
    targets = {
        cell.set.name: with_target(scans[cell.set.name].rows, cell.set.absent)
        for cell in grid.cells
        if cell.kind == WORDING
    }
    for system in suite.systems.values():
        cells = [cell for cell in grid.cells if cell.system is system]
        if not cells:
            continue
        try:
            pipeline = _load(system, request, fetched)
        except UsageError as error:
            raise UsageError(f"presets.{system.name}: {error}") from error
        except LexisegError as error:
            unavailable.append(f"{system.name}: {printable(str(error))}")
            logger.warning("%s", unavailable[-1])
            continue
        for cell in cells:
            chosen, rows = scans[cell.set.name], list(scans[cell.set.name].rows)
            if cell.kind == WORDING:
                limit = suite.wording.limit if suite.wording else None
                rows = spread(targets[cell.set.name], limit)
            works.append(_planned(suite, cell, pipeline, items_of(cell, chosen, rows), request))
    return works, unavailable


def _planned(
    suite: Suite, cell: Cell, pipeline: Pipeline, items: Sequence[RunItem], request: BenchmarkRequest
) -> _Work:
    asked: dict[str, Any] = {"save_stages": suite.save_stages}
    if cell.kind == WORDING:
        asked = {"contrasts": dict(cell.set.contrasts)}
    settings = cell_settings(pipeline, seed=cell.seed, asked=asked)
    digests = {item.id: scan_digest(cell, item) for item in items}
    ids = [item.id for item in items]
    finished = partial(answered, ids=ids) if cell.kind == WORDING else _finished
    state = cell_state(cell.folder(request.out), settings, digests, finished if request.resume else _nothing)
    if not request.resume:
        state = CellState()
    if state.changed:
        logger.info("%s: other %s than before; it is done again", cell.name, state.changed)
    return _Work(cell, tuple(items), settings, digests, state)


def _nothing(_: Path) -> frozenset[str]:
    return frozenset()


def _finished(folder: Path) -> frozenset[str]:
    """Scans of a cell with an answer whose files are what they were.

    Raises:
        UsageError: a file was changed since, and is whole: it may be somebody's work.
    """
    table = folder / "results.csv"
    if not table.exists():
        return frozenset()
    ledger = read_ledger(folder)
    done = set()
    for row in read_results(table):
        states = ledger.states(row.id, folder)
        if changed := next((name for name, state in states.items() if state is State.CHANGED), ""):
            raise UsageError(
                f"{printable(str(folder))}: {printable(changed)} was changed after its run wrote it; move it away, "
                "or do everything again with --no-resume"
            )
        if row.ok and ledger.finished(row.id) and all(state is State.SAME for state in states.values()):
            done.add(row.id)
    return frozenset(done)


def _run_missing(
    suite: Suite, works: Sequence[_Work], request: BenchmarkRequest, progress: Tell | None
) -> tuple[int, int]:
    """Run what is missing, one system's models in memory at a time; how many cells, and scans that failed."""
    missing = [work for work in works if work.missing]
    teller = _Teller(sum(len(work.missing) for work in missing), progress)
    for system in suite.systems.values():
        pending = [work for work in missing if work.cell.system is system]
        if not pending:
            continue
        pipeline = _load(system, request, None)
        for work in pending:
            _run_cell(suite, work, pipeline, request.out, teller)
    return len(missing), teller.failed


def _run_cell(suite: Suite, work: _Work, pipeline: Pipeline, out: Path, teller: _Teller) -> None:
    cell, folder = work.cell, work.cell.folder(out)
    begin_cell(folder, work.settings, work.digests, keep=work.state.usable)
    if cell.kind == WORDING:
        failed = run_wording(
            pipeline,
            cell,
            work.missing,
            folder,
            lambda item, done, bad: teller.tell(cell, RunProgress(done, 0, item.shown, bad)),
        )
    else:
        check_folder(folder, work.items)
        failed = run_batch(
            pipeline,
            work.items,
            folder,
            phrases=(cell.set.generic,) if cell.kind == GENERIC else (),
            options=RunOptions(save_stages=suite.save_stages, resume=work.state.usable, seed=cell.seed),
            progress=partial(teller.tell, cell),
        ).failed
    teller.end(len(work.missing), failed)


class _Teller:
    """Turns the progress of cells into one over all missing scans."""

    def __init__(self, total: int, progress: Tell | None) -> None:
        self._total, self._progress = total, progress
        self._done = self.failed = 0

    def tell(self, cell: Cell, told: RunProgress) -> None:
        if self._progress is not None:
            shown = f"{cell.set.name}/{cell.system.name}/{cell.kind} {Path(told.scan).name}"
            done, failed = self._done + told.done, self.failed + told.failed
            self._progress(replace(told, done=done, total=self._total, scan=shown, failed=failed))

    def end(self, scans: int, failed: int) -> None:
        self._done += scans
        self.failed += failed


def _load(system: SuiteSystem, request: BenchmarkRequest, fetched: Fetched | None) -> Pipeline:
    from lexiseg.pipelines.loading import load

    preset = system.preset if request.batch is None else system.preset.at_once(request.batch)
    return load(preset, device=request.device, precision=request.precision, progress=fetched)

"""Many scans through one pipeline, each on its own: a bad one costs its rows, not the run."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lexiseg.errors import LexisegError, UnwritableResult
from lexiseg.io.masks import read_mask
from lexiseg.io.names import printable
from lexiseg.io.read import read_scan
from lexiseg.pipelines.results import Result
from lexiseg.runs import ledger
from lexiseg.runs.folder import only_run, remove_outputs, take_over
from lexiseg.runs.items import RunItem
from lexiseg.runs.notes import Notices, lost_to_others
from lexiseg.runs.outputs import write_outputs
from lexiseg.runs.segment import Pipeline, RunOptions, RunProgress, RunSummary
from lexiseg.runs.table import (
    RESULTS_NAME,
    Row,
    append_results,
    boxes_cell,
    now,
    number,
    settings_record,
    sizes,
    write_record,
    write_results,
)
from lexiseg.values.scans import Scan, Volume

logger = logging.getLogger(__name__)
Observe = Callable[[RunItem, Scan, Result], None]


def segment_one(
    pipeline: Pipeline,
    item: RunItem,
    out: Path,
    *,
    options: RunOptions,
    tell: Callable[[float], None],
    observe: Observe | None = None,
    notices: Notices | None = None,
) -> list[Row]:
    """The rows of one scan, one for each phrase, its files written; whatever goes wrong with it ends here.

    Args:
        pipeline: see `run_batch`.
        item: the scan.
        out: the run's folder.
        options: see `RunOptions`.
        tell: called with the share of the scan's work that is done.
        observe: see `run_batch`.
        notices: told of the result, for what is said once a run.

    Raises:
        UnwritableResult: the file system refused.
    """
    began = time.perf_counter()
    try:
        if item.error:
            raise LexisegError(item.error)
        scan = read_scan(item.path, id=item.id)
        keep = options.save_stages or observe is not None
        ask: Any = pipeline  # yardsticks take one argument more than a `Pipeline` promises
        result: Result = ask(scan, item.phrases, keep_stages=keep, progress=tell, **_truth(pipeline, item, scan))
        if observe is not None:
            observe(item, scan, result)
        planes = pipeline.planes(scan)
        ledger.begin(out, item.id, item.phrases)
        written = write_outputs(
            result, scan, planes, out, item.name, stages=options.save_stages, overlay=options.overlay
        )
        ledger.finish(out, item.id, item.path, item.shown, written)
    except UnwritableResult:
        # The next scan would meet the same full disk.
        raise
    except LexisegError as error:
        reason = printable(str(error))
    # A scan that trips over a fault of ours must not end the run.
    except Exception as error:
        logger.debug("%s failed", item.shown, exc_info=True)
        reason = f"{item.shown}: {internal_error(error)}"
    else:
        seconds = number(time.perf_counter() - began, 3)
        logger.info("%s: done in %s s", item.shown, seconds)
        if notices is not None:
            notices.take(result)
        return _rows(item, pipeline.preset.name, result, scan, seconds)
    logger.warning("%s", reason)
    remove_outputs(out, item.name, item.phrases)
    seconds = number(time.perf_counter() - began, 3)
    common = {"id": item.id, "image": item.shown, "preset": pipeline.preset.name, "seconds": seconds}
    return [Row(**common, text=text, status="failed", error=reason) for text in item.phrases or ("",)]


def _truth(pipeline: Pipeline, item: RunItem, scan: Scan) -> dict[str, Any]:
    """The true mask, for a yardstick that needs one; nothing for any other pipeline."""
    if not getattr(pipeline, "needs_truth", False):
        return {}
    if item.mask is None:
        raise LexisegError(f"{item.shown}: the manifest names no true mask for it, whose boxes are needed")
    return {"truth": read_mask(item.mask, scan)}


def _rows(item: RunItem, preset: str, result: Result, scan: Scan, seconds: str) -> list[Row]:
    common = {name: text for name, text in {**scan.notes, **result.planes}.items() if text}
    lost = lost_to_others(result)

    def notes(phrase: str) -> str:
        own = {"labels": str(lost[phrase])} if phrase in lost else {}
        return "; ".join(f"{name}: {text}" for name, text in {**common, **own}.items())

    return [
        Row(
            id=item.id,
            image=item.shown,
            text=target.phrase,
            preset=preset,
            present="true" if target.present else "false",
            presence=number(target.presence),
            confidence=number(target.confidence),
            boxes=boxes_cell(target, volume=isinstance(scan, Volume)),
            seconds=seconds,
            notes=notes(target.phrase),
            verdict=target.verdict,
            **sizes(target.mask, scan),
        )
        for target in result.targets
    ]


def internal_error(error: BaseException) -> str:
    """One line on an exception that nobody meant: its kind and place, not its words.

    What a library says may quote a scan's header, and so a patient.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "internal error: there is not enough memory for this scan; try a smaller one or another device"
    where = ""
    with contextlib.suppress(IndexError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f" at {Path(frame.filename).name}:{frame.lineno}"
    return f"internal error: {type(error).__name__}{where}; --log-level debug shows more"


def run_batch(
    pipeline: Pipeline,
    items: Sequence[RunItem],
    out: Path,
    *,
    phrases: Sequence[str] = (),
    options: RunOptions | None = None,
    progress: Callable[[RunProgress], None] | None = None,
    observe: Observe | None = None,
    tuned: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Segment scans into a folder: masks, results.csv and run.json.

    results.csv grows by a scan's rows once all its files are written, and reaches the disk before the next
    scan begins, so that it can be resumed after any kind of end; at the end it is put in the items' order.
    Rows of scans that are not among the items of a resumed run stay, after the others. files.csv lists what
    was written, see `lexiseg.runs.ledger`; what an earlier run wrote and this one does not keep is removed.

    Args:
        pipeline: from `lexiseg.load`.
        items: see `gather_items`.
        out: made if missing.
        phrases: those asked of every scan, for the record; () where the items differ.
        options: see `RunOptions`.
        progress: called often, with how far it is.
        observe: called with each scan and its result, stages kept, before the files are written.
        tuned: how the pipeline's settings were chosen without labels, for the record; None for fixed ones.

    Raises:
        UsageError: resuming a run of other settings or weights, another run is writing to the folder, or it
            holds files of these scans' names that no run wrote.
        UnwritableResult: the file system refused; what was done until then can be resumed.
    """
    options = options or RunOptions()
    began, started = time.perf_counter(), now()
    settings = settings_record(
        pipeline.provenance,
        device=str(pipeline.encoder.device),
        precision=_precision(pipeline),
        seed=options.seed,
        phrases=phrases,
        options={"save_stages": options.save_stages, "overlay": options.overlay},
    )
    with only_run(out):
        # The table first: old rows beside a new record would pass for the new run's.
        kept = take_over(out, items, settings, resume=options.resume)
        table = out / RESULTS_NAME
        chosen = {"tuning": "fixed"} if tuned is None else {"tuning": "label-free", "tuned": dict(tuned)}
        record = {**settings, **chosen, "started": kept.record.get("started", started), "finished": None}
        write_record(out, {**record, "counts": None, "seconds": None})

        pending = [item for item in items if item.id not in kept.done]
        teller, notices = _Teller(len(pending), progress), Notices()
        for item in pending:
            teller.begin(item)
            with _resumable():
                rows = segment_one(
                    pipeline, item, out, options=options, tell=teller.share, observe=observe, notices=notices
                )
                append_results(table, rows)
            kept.rows[item.id] = rows
            teller.end(failed=not rows[0].ok)
        notices.say_kinds()
        notices.say_overlaps()
        write_results(table, kept.in_order(items))
        seconds = time.perf_counter() - began
        done = [kept.rows[item.id] for item in items if kept.rows[item.id][0].ok]
        summary = RunSummary(
            folder=out,
            done=len(done),
            absent=sum(all(row.verdict == "absent" for row in rows) for rows in done),
            unknown=sum(any(row.verdict == "unknown" for row in rows) for rows in done),
            failed=len(items) - len(done),
            skipped=len(items) - len(pending),
            seconds=seconds,
        )
        write_record(out, {**record, "finished": now(), "counts": summary.counts(), "seconds": round(seconds, 3)})
        return summary


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """A full disk ends a run; its message says how the run goes on."""
    try:
        yield
    except UnwritableResult as error:
        if "--resume" in str(error):
            raise
        raise UnwritableResult(f"{error}; what is done is kept: --resume continues") from error


class _Teller:
    """Turns scans begun, shares and ends into `RunProgress`."""

    def __init__(self, total: int, progress: Callable[[RunProgress], None] | None) -> None:
        self._total, self._progress = total, progress
        self._ended = self._failed = 0
        self._shown = ""

    def begin(self, item: RunItem) -> None:
        self._shown = item.shown
        self.share(0.0)

    def share(self, share: float) -> None:
        if self._progress is not None:
            self._progress(RunProgress(self._ended + share, self._total, self._shown, self._failed))

    def end(self, *, failed: bool) -> None:
        self._ended += 1
        self._failed += failed
        self.share(0.0)


def _precision(pipeline: Pipeline) -> str:
    found = [getattr(model, "precision", "") for model in (pipeline.encoder, pipeline.segmenter)]
    return found[0] if found[0] == found[1] else "/".join(found)

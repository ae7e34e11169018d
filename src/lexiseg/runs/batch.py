"""Many scans through one pipeline, each on its own: a bad one costs its rows, not the run."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lexiseg.errors import LexisegError, UnwritableResult
from lexiseg.io.dicom.pseudonyms import Pseudonyms, own_pseudonyms
from lexiseg.io.masks import read_mask
from lexiseg.io.names import RESULTS_NAME, printable
from lexiseg.io.segments import WriteOptions
from lexiseg.io.sources import read_source
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.runs import ledger
from lexiseg.runs.ahead import Behind, ReadAhead
from lexiseg.runs.exports import write_exports
from lexiseg.runs.folder import only_run, remove_outputs, take_over
from lexiseg.runs.items import RunItem
from lexiseg.runs.notes import Notices, Teller, lost_to_others
from lexiseg.runs.outputs import OutputOptions, refuse_unfit, write_outputs
from lexiseg.runs.partial import ENDING, PartialVolume, key_of
from lexiseg.runs.segment import Pipeline, RunOptions, RunProgress, RunSummary
from lexiseg.runs.sizes import sizes
from lexiseg.runs.table import (
    Row,
    append_results,
    boxes_cell,
    now,
    number,
    settings_record,
    write_record,
    write_results,
)
from lexiseg.values.scans import Planes, Scan, Volume

logger = logging.getLogger(__name__)
Observe = Callable[[RunItem, Scan, Result], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """A scan that was worked on.

    Attributes:
        failed: it cannot be segmented.
        finish: writes its files and gives its rows; it may be called in another thread.
    """

    failed: bool
    finish: Callable[[], list[Row]]


def segment_one(
    pipeline: Pipeline,
    item: RunItem,
    out: Path,
    *,
    options: RunOptions,
    tell: Callable[[float, int], None],
    read: Callable[[RunItem], tuple[Scan, float]],
    outputs: OutputOptions | None = None,
    observe: Observe | None = None,
    notices: Notices | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Work:
    """Work on one scan; whatever goes wrong with it ends in its rows, one for each phrase.

    Args:
        pipeline: see `run_batch`.
        item: the scan.
        out: the run's folder.
        options: see `RunOptions`.
        tell: called with the share of the scan's work that is done, and the number of its planes.
        read: gives the scan, and how many seconds that took.
        outputs: what is written, and how; by the options when None.
        observe: see `run_batch`.
        notices: told of the result, for what is said once a run.
        settings: of the run, see `settings_record`; with them a volume's slices are written down as they are done,
            and taken up where an earlier run left them.

    Raises:
        UnwritableResult: the file system refused.
    """
    outputs = outputs or output_options(options)
    took: list[float] = []  # seconds, of reading, of the work and of writing; no two scans share any

    def work() -> tuple[Result, Scan, Planes, PartialVolume | None]:
        if item.error:
            raise LexisegError(item.error)
        scan, reading = read(item)
        took.append(reading)
        # Before the work is done.
        refuse_unfit(scan, item.name, outputs)
        began = time.perf_counter()
        # Probabilities of a volume's planes are kept with the stages alone.
        keep = options.save_stages or observe is not None or options.seg_type == "fractional"
        planes = pipeline.planes(scan, item.phrases)
        tell(0.0, len(planes))
        ask: Any = pipeline  # some take more arguments than a `Pipeline` promises
        partial = _partial(pipeline, item, out, scan=scan, planes=planes, settings=settings)
        if keep and partial is not None:
            partial = None
            # An observer is a program's own.
            if notices is not None and observe is None:
                notices.take_unjournaled(scan)
        with _written_down(partial) as more:
            result: Result = ask(
                scan,
                item.phrases,
                keep_stages=keep,
                progress=lambda share: tell(share, len(planes)),
                **more,
                **_truth(pipeline, item, scan),
            )
        if observe is not None:
            observe(item, scan, result)
        took.append(time.perf_counter() - began)
        return result, scan, planes, partial

    def write(result: Result, scan: Scan, planes: Planes, partial: PartialVolume | None) -> list[Row]:
        began = time.perf_counter()
        ledger.begin(out, item.id, item.phrases)
        written = write_outputs(result, scan, planes, out, item.name, options=outputs)
        ledger.finish(out, item.id, item.source.files, item.shown, written.paths)
        if partial is not None:
            partial.remove()
        seconds = number(sum(took) + time.perf_counter() - began, 3)
        logger.info("%s: done in %s s", item.shown, seconds)
        if notices is not None:
            notices.take(result)
            notices.take_left_out(written.left_out)
        common = {"preset": pipeline.preset.name, "seconds": seconds}
        return _rows(item, result, planes, {**scan.notes, **result.planes, **written.notes}, common)

    def give_up(reason: str) -> list[Row]:
        logger.warning("%s", reason)
        remove_outputs(out, item.name, item.phrases)
        common = {"id": item.id, "image": item.shown, "preset": pipeline.preset.name, "seconds": number(sum(took), 3)}
        return [Row(**common, text=text, status="failed", error=reason) for text in item.phrases or ("",)]

    done, reason = _attempt(item, work)
    if done is None:
        return Work(failed=True, finish=lambda: give_up(reason))

    def finish() -> list[Row]:
        rows, reason = _attempt(item, lambda: write(*done))
        return give_up(reason) if rows is None else rows

    return Work(failed=False, finish=finish)


def _attempt(item: RunItem, work: Callable[[], T]) -> tuple[T | None, str]:
    """What some work on a scan gives, or None and why it could not be done."""
    try:
        return work(), ""
    except UnwritableResult:
        # The next scan would meet the same full disk.
        raise
    except LexisegError as error:
        return None, printable(str(error))
    # A scan that trips over a fault of ours must not end the run.
    except Exception as error:
        logger.debug("%s failed", item.shown, exc_info=True)
        return None, f"{item.shown}: {internal_error(error)}"


def _read(item: RunItem) -> Scan:
    return read_source(item.source, id=item.id)


def output_options(options: RunOptions, pseudonyms: Pseudonyms | None = None) -> OutputOptions:
    """What a run writes of each scan."""
    return OutputOptions(
        stages=options.save_stages,
        overlay=options.overlay,
        formats=options.formats,
        # Of these, what is written of all scans together is made.
        arrays_too=bool(options.exports),
        writing=WriteOptions(seg_type=options.seg_type, pseudonyms=pseudonyms),
    )


def _truth(pipeline: Pipeline, item: RunItem, scan: Scan) -> dict[str, Any]:
    """The true mask, for a yardstick that needs one; nothing for any other pipeline."""
    if not getattr(pipeline, "needs_truth", False):
        return {}
    if item.mask is None:
        raise LexisegError(f"{item.shown}: the manifest names no true mask for it, whose boxes are needed")
    return {"truth": read_mask(item.mask, scan)}


def _partial(
    pipeline: Pipeline, item: RunItem, out: Path, *, scan: Scan, planes: Planes, settings: Mapping[str, Any] | None
) -> PartialVolume | None:
    """Where a volume's slices are written down; None for an image, and of a pipeline that writes none."""
    if settings is None or len(planes) < 2 or not isinstance(scan, Volume) or not getattr(pipeline, "journals", False):
        return None
    return PartialVolume(
        out / f"{item.name}_{ENDING}",
        key_of(settings, item.phrases, scan, planes.record()),
        announce=lambda: ledger.begin(out, item.id, item.phrases),
    )


@contextlib.contextmanager
def _written_down(partial: PartialVolume | None) -> Iterator[dict[str, Any]]:
    """Arguments of the pipeline's call; what it did is on the disk when it ends by Ctrl-C or SIGTERM."""
    if partial is None:
        yield {}
        return
    try:
        yield {"journal": partial}
    except Exception:
        raise
    except BaseException:
        partial.flush()
        raise


def _rows(
    item: RunItem, result: Result, planes: Planes, notes: Mapping[str, str], common: Mapping[str, Any]
) -> list[Row]:
    told = {name: text for name, text in notes.items() if text}
    lost = lost_to_others(result)

    def notes_of(target: TargetResult) -> str:
        own = {"labels": str(lost[target.phrase])} if target.phrase in lost else {}
        if target.verdict == "absent" and math.isnan(target.presence):
            own["presence"] = "nothing tells whether it is there: no region was proposed that could be looked at"
        return "; ".join(f"{name}: {text}" for name, text in {**told, **own}.items())

    return [
        Row(
            id=item.id,
            image=item.shown,
            text=target.phrase,
            present="true" if target.present else "false",
            presence=number(target.presence),
            confidence=number(target.confidence),
            boxes=boxes_cell(target, planes),
            notes=notes_of(target),
            verdict=target.verdict,
            read_as=target.read_as or "",
            **sizes(target.mask, planes),
            **common,
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
    reading: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Segment scans into a folder: masks, results.csv and run.json.

    While a scan is worked on the next is read, and the files of the last are written. results.csv grows by a
    scan's rows once all its files are written, and reaches the disk before the next scan's files are begun, so
    that it can be resumed after any kind of end; at the end it is put in the items' order.
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
        reading: what was asked for of folders and volumes, for the record; see `SourceOptions.record`.
        tuned: how the pipeline's settings were chosen without labels, for the record; None for fixed ones.

    Raises:
        UsageError: resuming a run of other settings or weights, another run is writing to the folder, or it
            holds files of these scans' names that no run wrote.
        UnwritableResult: the file system refused; what was done until then can be resumed.
    """
    options = options or RunOptions()
    began, started = time.perf_counter(), now()
    pseudonyms = own_pseudonyms() if options.deidentify else None
    outputs = output_options(options, pseudonyms)
    settings = settings_record(
        pipeline.provenance,
        device=str(pipeline.encoder.device),
        precision=_precision(pipeline),
        seed=options.seed,
        phrases=phrases,
        options={**options.record(pseudonyms), **(reading or {})},
    )
    with only_run(out):
        # The table first: old rows beside a new record would pass for the new run's.
        kept = take_over(out, items, settings, resume=options.resume)
        table = out / RESULTS_NAME
        chosen = {"tuning": "fixed"} if tuned is None else {"tuning": "label-free", "tuned": dict(tuned)}
        record = {**settings, **chosen, "started": kept.record.get("started", started), "finished": None}
        write_record(out, {**record, "counts": None, "seconds": None})

        pending = [item for item in items if item.id not in kept.done]
        teller, notices = Teller(len(pending), progress), Notices()
        with Behind[list[Row]]() as behind, ReadAhead(pending, _read) as ahead:
            for item in pending:
                teller.begin(item)
                with _resumable():
                    work = segment_one(
                        pipeline,
                        item,
                        out,
                        options=options,
                        outputs=outputs,
                        tell=teller.share,
                        read=ahead.take,
                        observe=observe,
                        notices=notices,
                        settings=settings,
                    )
                    behind.begin(functools.partial(_finish, work, item, table, kept.rows))
                teller.end(failed=work.failed)
            with _resumable():
                behind.wait()
        notices.say_kinds()
        notices.say_overlaps()
        notices.say_left_out()
        with _resumable():
            write_exports(out, options.exports, items, kept.rows, _read)
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


def _finish(work: Work, item: RunItem, table: Path, rows: dict[str, list[Row]]) -> list[Row]:
    """Write a scan's files, then its rows."""
    found = work.finish()
    append_results(table, found)
    rows[item.id] = found
    return found


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    """A full disk ends a run; its message says how the run goes on."""
    try:
        yield
    except UnwritableResult as error:
        if "--resume" in str(error):
            raise
        raise UnwritableResult(f"{error}; what is done is kept: --resume continues") from error


def _precision(pipeline: Pipeline) -> str:
    found = [getattr(model, "precision", "") for model in (pipeline.encoder, pipeline.segmenter)]
    return found[0] if found[0] == found[1] else "/".join(found)

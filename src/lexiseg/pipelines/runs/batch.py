"""Many scans through one pipeline, each on its own: a bad one costs its rows, not the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lexiseg.pipelines.runs.folder import earlier_rows, only_run
from lexiseg.pipelines.runs.items import RunItem
from lexiseg.pipelines.runs.one import Observe, segment_one
from lexiseg.pipelines.runs.record import now, settings_record, write_record
from lexiseg.pipelines.runs.table import RESULTS_NAME, append_results, write_results
from lexiseg.pipelines.runs.values import Pipeline, RunOptions, RunProgress, RunSummary


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
    Rows of scans that are not among the items of a resumed run stay, after the others.

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
        UsageError: resuming a run of other settings or weights, or another run is writing to the folder.
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
        kept, before = earlier_rows(out, items, settings, resume=options.resume)
        table = out / RESULTS_NAME
        # The table first: old rows beside a new record would pass for the new run's.
        write_results(table, kept.in_order(items))
        chosen = {"tuning": "fixed"} if tuned is None else {"tuning": "label-free", "tuned": dict(tuned)}
        record = {**settings, **chosen, "started": before.get("started", started), "finished": None}
        write_record(out, {**record, "counts": None, "seconds": None})

        pending = [item for item in items if item.id not in kept.done]
        teller = _Teller(len(pending), progress)
        for item in pending:
            teller.begin(item)
            rows = segment_one(pipeline, item, out, options=options, tell=teller.share, observe=observe)
            append_results(table, rows)
            kept.rows[item.id] = rows
            teller.end(failed=not rows[0].ok)
        write_results(table, kept.in_order(items))
        seconds = time.perf_counter() - began
        done = [kept.rows[item.id] for item in items if kept.rows[item.id][0].ok]
        summary = RunSummary(
            folder=out,
            done=len(done),
            absent=sum(all(row.present == "false" for row in rows) for rows in done),
            failed=len(items) - len(done),
            skipped=len(items) - len(pending),
            seconds=seconds,
        )
        write_record(
            out, {**record, "finished": now(), "counts": summary.counts(), "seconds": round(seconds, 3)}
        )
        return summary


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

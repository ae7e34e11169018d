"""One scan of a run: from its file to its files and rows."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lexiseg.errors import LexisegError, UnwritableResult
from lexiseg.pipelines.result import Result
from lexiseg.pipelines.runs.items import RunItem
from lexiseg.pipelines.runs.outputs import remove_outputs, write_outputs
from lexiseg.pipelines.runs.row import Row, boxes_cell, number
from lexiseg.pipelines.runs.seeding import seed_scan
from lexiseg.pipelines.runs.values import Pipeline, RunOptions
from lexiseg.scans import Scan, printable, read_mask, read_scan

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
) -> list[Row]:
    """The rows of one scan, one for each phrase, its files written; whatever goes wrong with it ends here.

    Args:
        pipeline: see `run_batch`.
        item: the scan.
        out: the run's folder.
        options: see `RunOptions`.
        tell: called with the share of the scan's work that is done.
        observe: see `run_batch`.

    Raises:
        UnwritableResult: the file system refused.
    """
    began = time.perf_counter()
    try:
        if item.error:
            raise LexisegError(item.error)
        seed_scan(options.seed, item.id)
        scan = read_scan(item.path, id=item.id, volume_axis=pipeline.preset.volume.get("axis", "auto"))
        keep = options.save_stages or observe is not None
        ask: Any = pipeline  # yardsticks take one argument more than a `Pipeline` promises
        result: Result = ask(
            scan, item.phrases, keep_stages=keep, progress=tell, **_truth(pipeline, item, scan)
        )
        if observe is not None:
            observe(item, scan, result)
        write_outputs(result, scan, out, item.name, stages=options.save_stages, overlay=options.overlay)
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
    return [
        Row(
            id=item.id,
            image=item.shown,
            text=finding.phrase,
            preset=preset,
            present="true" if finding.present else "false",
            presence=number(finding.presence),
            confidence=number(finding.confidence),
            boxes=boxes_cell(finding, volume=scan.volume),
            seconds=seconds,
        )
        for finding in result.findings
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

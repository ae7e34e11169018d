"""Cells of sensitivity to the text: each scan's reactions in a file of its own."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

from lexiseg.benchmark.cells import Cell
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import LexisegError, UnreadableScan, UnwritableResult
from lexiseg.evaluation.sensitivity import Answering, Reaction, text_sensitivity
from lexiseg.evaluation.truths import read_truth
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.io.read import read_scan
from lexiseg.runs.batch import internal_error, seed_scan
from lexiseg.runs.items import RunItem
from lexiseg.runs.values import Pipeline

logger = logging.getLogger(__name__)

_ENDING = "_reactions.json"


def with_target(rows: Sequence[ManifestRow], absent: Sequence[str]) -> list[ManifestRow]:
    """Rows whose target is in the scan: only there is the right phrase right.

    Args:
        rows: of a manifest.
        absent: labels of scans without a target.
    """
    found = []
    for row in rows:
        try:
            if row.boxes or (row.mask is not None and read_truth(row, absent=absent).present):
                found.append(row)
        except UnreadableScan as error:
            logger.debug("%s is not asked: %s", printable(row.id), error)
    return found


def run_reactions(
    pipeline: Pipeline,
    cell: Cell,
    items: Sequence[RunItem],
    out: Path,
    tell: Callable[[RunItem, int, int], None],
) -> int:
    """Ask each scan for what it shows and for the set's contrasts, and write what it answered.

    Args:
        pipeline: of the cell's system.
        cell: whose set says the phrases.
        items: the scans to do.
        out: the cell's folder.
        tell: called with the scan that is next, how many are done, and how many of them failed.

    Returns:
        How many scans failed.

    Raises:
        UnwritableResult: the file system refused.
    """
    failed = 0
    for done, item in enumerate(items):
        tell(item, done, failed)
        try:
            if item.error:
                raise LexisegError(item.error)
            seed_scan(cell.seed, item.id)
            scan = read_scan(item.path, id=item.id, volume_axis=pipeline.preset.volume.get("axis", "auto"))
            found = text_sensitivity(cast(Answering, pipeline), scan, item.phrases[0], cell.set.contrasts)
            _write(out / f"{item.name}{_ENDING}", found)
        except UnwritableResult:
            raise
        except LexisegError as error:
            reason = printable(str(error))
        # As in a run: a scan that trips over a fault of ours must not end the benchmark.
        except Exception as error:
            logger.debug("%s failed", item.shown, exc_info=True)
            reason = f"{item.shown}: {internal_error(error)}"
        else:
            continue
        failed += 1
        logger.warning("%s: %s", cell.name, reason)
    return failed


def read_reactions(folder: Path, id: str) -> tuple[Reaction, ...] | None:
    """What a scan answered; None where it was not asked, or the file is damaged."""
    try:
        content = json.loads((folder / f"{safe_id(id)}{_ENDING}").read_text(encoding="utf-8"))
        return tuple(_reaction(each) for each in content)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def answered(folder: Path, ids: Sequence[str]) -> frozenset[str]:
    """The ids of scans that were asked."""
    return frozenset(each for each in ids if read_reactions(folder, each) is not None)


def _write(path: Path, reactions: Sequence[Reaction]) -> None:
    plain = [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in each.items()}
        for each in map(asdict, reactions)
    ]
    content = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, lambda file: file.write(content.encode()))


def _reaction(values: Mapping[str, Any]) -> Reaction:
    known: dict[str, Any] = {
        each.name: math.nan if values[each.name] is None else values[each.name] for each in fields(Reaction)
    }
    return Reaction(**known)

"""A run's settings chosen on its own scans, without a label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import LexisegError
from lexiseg.io.sources import read_source
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.tuning import Tuning, tune_label_free
from lexiseg.runs.items import RunItem
from lexiseg.runs.segment import RunProgress
from lexiseg.runs.table import read_record
from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

_SCANS, _SCANS_OF_LOOKS = 5, 12
"""How many are looked at: a look takes a forward for each, proposals take seconds."""


def tuned_pipeline(
    pipeline: TextPipeline,
    items: Sequence[RunItem],
    out: Path,
    *,
    resume: bool,
    progress: Callable[[RunProgress], None] | None = None,
) -> tuple[TextPipeline, dict[str, Any]]:
    """The pipeline with the settings that `tune_label_free` chooses on a few scans spread over the run.

    A run that is resumed keeps the choice of its beginning: half its scans were done with it.

    Args:
        pipeline: from `lexiseg.load`.
        items: of the run; those that cannot be read are left to the run itself.
        out: the run's folder.
        resume: whether an earlier run of the folder is continued.
        progress: called with how far it is, as if before the first scan.

    Returns:
        The pipeline to use, and how its settings were chosen.

    Raises:
        UsageError: none of the scans can be read.
    """
    before = (read_record(out) or {}) if resume else {}
    tuned = before.get("tuned")
    if not isinstance(tuned, dict) or not isinstance(tuned.get("choice"), dict):

        def tell(share: float) -> None:
            if progress is not None:
                progress(RunProgress(0.0, len(items), f"choosing settings, {share:.0%}", 0))

        tell(0.0)
        found = tune_label_free(pipeline, _some(pipeline, items), progress=tell)
        _tell_choice(found)
        tuned = found.as_dict()
    changed = pipeline.preset.override(**tuned["choice"])
    return type(pipeline)(changed, pipeline.encoder, pipeline.segmenter), tuned


def _tell_choice(found: Tuning) -> None:
    """One line where other settings than the preset's were chosen: a guess that the user should see."""
    best, own = found.best, found.trials[0]
    if best is own:
        logger.info("settings chosen without labels: the preset's own")
        return
    told = " ".join(f"{part}.{key}={value}" for part, keys in best.changes.items() for key, value in keys.items())
    logger.warning(
        "settings chosen without labels on %d of the scans: %s, surer by %.2f; `--tune fixed` keeps the preset's own",
        len(found.scans), told, best.score - own.score,
    )  # fmt: skip


def _some(pipeline: TextPipeline, items: Sequence[RunItem]) -> list[tuple[Scan, Sequence[str]]]:
    """Readable scans spread over the run, with what is asked of each."""
    most = _SCANS_OF_LOOKS if pipeline.preset.reads("look") else _SCANS
    order = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int).tolist()
    found: list[tuple[Scan, Sequence[str]]] = []
    # Those that cannot be read make room for the first of the others that can.
    for index in [*order, *(k for k in range(len(items)) if k not in order)]:
        if len(found) == len(order):
            break
        item = items[index]
        try:
            if not item.error:
                found.append((read_source(item.source, id=item.id), item.phrases))
        except LexisegError as error:
            logger.debug("not tuned on %s: %s", item.shown, error)
    return found

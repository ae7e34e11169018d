"""Files to masks in one call: what `lexiseg segment` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import LexisegError, UsageError
from lexiseg.io.read import read_scan
from lexiseg.pipelines.base import TextPipeline
from lexiseg.pipelines.loading import PIPELINES
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.pipelines.salip import Salip
from lexiseg.pipelines.tuning import tune_label_free
from lexiseg.runs.batch import Observe, run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import RunItem, gather_items
from lexiseg.runs.record import read_record
from lexiseg.runs.values import RunOptions, RunProgress, RunSummary
from lexiseg.text.phrases import check_phrase
from lexiseg.values.scan import Scan

logger = logging.getLogger(__name__)

_SCANS = 5


def check_tuning(how: str, preset: Preset) -> None:
    """See that a preset can be tuned in this way, before a model is loaded.

    Raises:
        UsageError: it cannot, or there is no such way.
    """
    if how not in ("fixed", "label-free"):
        raise UsageError(f"there is no tuning {how!r}; expected fixed or label-free")
    if how == "label-free" and not issubclass(PIPELINES[preset.pipeline], Salip):
        raise UsageError(
            f"the preset {preset.name!r} has no settings that can be tuned without labels; "
            "expected one of SaLIP, such as demo-salip"
        )


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
        tuned = tune_label_free(pipeline, _some(pipeline, items), progress=tell).as_dict()
        logger.info("settings chosen without labels: %s", tuned["choice"] or "the preset's own")
    changed = pipeline.preset.override(**tuned["choice"])
    return type(pipeline)(changed, pipeline.encoder, pipeline.segmenter), tuned


def _some(pipeline: TextPipeline, items: Sequence[RunItem]) -> list[tuple[Scan, Sequence[str]]]:
    """Readable scans spread over the run, with what is asked of each."""
    order = np.linspace(0, len(items) - 1, min(_SCANS, len(items))).round().astype(int).tolist()
    found: list[tuple[Scan, Sequence[str]]] = []
    # Those that cannot be read make room for the first of the others that can.
    for index in [*order, *(k for k in range(len(items)) if k not in order)]:
        if len(found) == len(order):
            break
        item = items[index]
        try:
            if not item.error:
                axis = pipeline.preset.volume.get("axis", "auto")
                found.append((read_scan(item.path, id=item.id, volume_axis=axis), item.phrases))
        except LexisegError as error:
            logger.debug("not tuned on %s: %s", item.shown, error)
    return found


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What to segment, with what, and where to.

    Attributes:
        out: the results' folder.
        inputs: files and folders.
        manifest: a CSV of scans, besides or instead of `inputs`; see `gather_items`.
        phrases: what to look for in every scan; may be empty where the manifest says it.
        preset: a preset's name or YAML file.
        changes: fields of the preset to replace, see `Preset.override`.
        device: see `lexiseg.load`.
        precision: see `lexiseg.load`.
        tune: "fixed" for the preset's settings as they are, "label-free" to choose among a few by
            `tune_label_free` on some of the scans.
        options: see `RunOptions`.
    """

    out: Path
    inputs: Sequence[str | Path] = ()
    manifest: str | Path | None = None
    phrases: Sequence[str] = ()
    preset: str = "demo"
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: str = "auto"
    tune: str = "fixed"
    options: RunOptions = field(default_factory=RunOptions)


def segment_files(
    request: RunRequest,
    *,
    progress: Callable[[RunProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
    observe: Observe | None = None,
) -> RunSummary:
    """Segment files into a folder; see `run_batch` for what is written.

    All that can be wrong with the request is told before a model is loaded, and before an earlier run's
    results are touched.

    Args:
        request: see `RunRequest`.
        progress: called with how far the run is.
        fetched: told (file, bytes done, bytes in all) while a model is fetched.
        observe: see `run_batch`.

    Raises:
        UsageError: the request cannot be done as it is.
        LexisegError: the models cannot be had, or the results not be written.
    """
    from lexiseg.models.device import resolve_device
    from lexiseg.pipelines.loading import load, pipeline_class

    preset = load_preset(request.preset, **request.changes)
    kind = pipeline_class(preset)
    check_tuning(request.tune, preset)
    resolve_device(request.device)
    items = gather_items(request.inputs, manifest=request.manifest, phrases=request.phrases)
    if kind.needs_truth and not any(item.mask for item in items):
        raise UsageError(
            f"the preset {preset.name!r} needs the boxes of true masks; give a manifest with a mask column"
        )
    check_folder(request.out, items)
    pipeline = load(preset, device=request.device, precision=request.precision, progress=fetched)
    tuned = None
    if request.tune == "label-free":
        pipeline, tuned = tuned_pipeline(pipeline, items, request.out, resume=request.options.resume, progress=progress)
    return run_batch(
        pipeline,
        items,
        request.out,
        phrases=[check_phrase(text) for text in request.phrases],
        options=request.options,
        progress=progress,
        observe=observe,
        tuned=tuned,
    )

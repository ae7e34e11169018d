"""Files to masks in one call: what `lexiseg segment` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.runs.batch import run_batch
from lexiseg.pipelines.runs.folder import check_folder
from lexiseg.pipelines.runs.items import gather_items
from lexiseg.pipelines.runs.one import Observe
from lexiseg.pipelines.runs.values import RunOptions, RunProgress, RunSummary
from lexiseg.prompts import check_phrase


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
    from lexiseg.models import resolve_device
    from lexiseg.pipelines import load
    from lexiseg.pipelines.loading import pipeline_class
    from lexiseg.pipelines.runs.tuned import check_tuning, tuned_pipeline

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
        pipeline, tuned = tuned_pipeline(
            pipeline, items, request.out, resume=request.options.resume, progress=progress
        )
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

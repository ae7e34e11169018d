"""Files to masks in one call: what `lexiseg segment` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import UsageError
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import gather_items
from lexiseg.runs.values import RunOptions, RunProgress, RunSummary
from lexiseg.text.phrases import check_phrase

if TYPE_CHECKING:
    from lexiseg.runs.batch import Observe


def check_tuning(how: str, preset: Preset) -> None:
    """See that a preset can be tuned in this way.

    Raises:
        UsageError: it cannot, or there is no such way.
    """
    if how not in ("fixed", "label-free"):
        raise UsageError(f"there is no tuning {how!r}; expected fixed or label-free")
    if how == "label-free" and preset.pipeline != "salip":
        raise UsageError(
            f"the preset {preset.name!r} has no settings that can be tuned without labels; "
            "expected one of SaLIP, such as demo-salip"
        )


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What to segment, with what, and where to.

    Attributes:
        out: the results' folder.
        inputs: files and folders.
        manifest: a CSV of scans, besides or instead of `inputs`; see `gather_items`.
        root: of the manifest's paths; its own folder when None.
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
    root: str | Path | None = None
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
    preset = load_preset(request.preset, **request.changes)
    check_tuning(request.tune, preset)
    items = gather_items(request.inputs, manifest=request.manifest, root=request.root, phrases=request.phrases)
    if preset.needs_truth and not any(item.mask for item in items):
        raise UsageError(
            f"the preset {preset.name!r} needs the boxes of true masks; give a manifest with a mask column"
        )
    check_folder(request.out, items)
    # From here on: torch and the models take seconds, and nothing of the request can be wrong any more but they.
    from lexiseg.models.device import resolve_device
    from lexiseg.pipelines import loading
    from lexiseg.runs.batch import run_batch
    from lexiseg.runs.tuned import tuned_pipeline

    resolve_device(request.device)
    pipeline = loading.load(preset, device=request.device, precision=request.precision, progress=fetched)
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

"""A student over files: what `lexiseg predict` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lexiseg.learning.weak import load_student
from lexiseg.pipelines.runs import (
    RunOptions,
    RunProgress,
    RunSummary,
    check_folder,
    gather_items,
    run_batch,
)
from lexiseg.pipelines.weak.student_pipeline import StudentPipeline


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What to segment with which student.

    Attributes:
        model: the student's folder.
        out: the results' folder.
        inputs: files and folders.
        manifest: a CSV of scans, besides or instead of `inputs`.
        flips: look at the mirrored scan too; None: see `StudentConfig.mirror`.
        min_confidence: masks of which the student expects a lower Dice are left empty.
        uncertainty: write NAME_uncertainty.png (or .nii.gz) beside each mask.
        device: see `lexiseg.models.resolve_device`.
        precision: "auto", "float32" or "bfloat16".
        options: see `RunOptions`.
    """

    model: Path
    out: Path
    inputs: Sequence[str | Path] = ()
    manifest: str | Path | None = None
    flips: bool | None = None
    min_confidence: float = 0.0
    uncertainty: bool = True
    device: str = "auto"
    precision: str = "auto"
    options: RunOptions = field(default_factory=RunOptions)


def predict_files(
    request: PredictRequest, *, progress: Callable[[RunProgress], None] | None = None
) -> RunSummary:
    """Segment files into a folder, with the same files and tables as `segment_files`.

    Args:
        request: see `PredictRequest`.
        progress: called with how far the run is.

    Raises:
        UsageError: the request cannot be done as it is, or the model's folder is none.
        LexisegError: the model is damaged, or results cannot be written.
    """
    student = load_student(request.model, device=request.device, precision=request.precision)
    names = student.config.names
    items = gather_items(request.inputs, manifest=request.manifest, phrases=names)
    check_folder(request.out, items)
    pipeline = StudentPipeline(
        student,
        flips=request.flips,
        uncertainty=request.uncertainty,
        min_confidence=request.min_confidence,
    )
    return run_batch(pipeline, items, request.out, phrases=names, options=request.options, progress=progress)

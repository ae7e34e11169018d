"""Weak supervision over files: a preset's masks become a set to learn from, a student's folder segments scans
as a preset does, and `distill` does both with the training between them. Batches, tables and resuming are
those of `lexiseg.pipelines.runs`; the training itself is in `lexiseg.learning.weak`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

if TYPE_CHECKING:
    from lexiseg.pipelines.weak.distillation import DistillReport, DistillRequest, distill
    from lexiseg.pipelines.weak.prediction import PredictRequest, predict_files
    from lexiseg.pipelines.weak.pseudo_labels import PseudoLabelReport, PseudoLabelRequest, make_pseudo_labels
    from lexiseg.pipelines.weak.rule import LabelRule
    from lexiseg.pipelines.weak.student_pipeline import StudentPipeline

_HOMES = {
    "distillation": ("DistillReport", "DistillRequest", "distill"),
    "prediction": ("PredictRequest", "predict_files"),
    "pseudo_labels": ("PseudoLabelReport", "PseudoLabelRequest", "make_pseudo_labels"),
    "rule": ("LabelRule",),
    "student_pipeline": ("StudentPipeline",),
}

__all__ = [
    "DistillReport",
    "DistillRequest",
    "LabelRule",
    "PredictRequest",
    "PseudoLabelReport",
    "PseudoLabelRequest",
    "StudentPipeline",
    "distill",
    "make_pseudo_labels",
    "predict_files",
]

__getattr__ = lazy_names(__name__, _HOMES)

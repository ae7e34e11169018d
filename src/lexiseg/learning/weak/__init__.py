"""Weak supervision: a student network learns from the masks that a zero-shot teacher drew.

`train` makes a student of a `LabelSet` and writes its folder; `load_student` reads it back.  What can be
done about wrong labels is in `robust/`.  Nothing here knows a teacher's pipeline: making pseudo-labels and
running a student over files is in `lexiseg.pipelines.weak`.  Names are looked up on first use, since training
needs libraries that the rest of lexiseg does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

if TYPE_CHECKING:
    from lexiseg.learning.weak.config import StudentConfig
    from lexiseg.learning.weak.labels import LabelSet, read_pseudo_labels, read_true_masks
    from lexiseg.learning.weak.settings import ROBUST, TrainSettings
    from lexiseg.learning.weak.sides import names_a_side
    from lexiseg.learning.weak.student import Prediction, Student, load_student
    from lexiseg.learning.weak.training import TrainProgress, TrainReport, train

_HOMES = {
    "config": ("StudentConfig",),
    "labels": ("LabelSet", "read_pseudo_labels", "read_true_masks"),
    "settings": ("ROBUST", "TrainSettings"),
    "sides": ("names_a_side",),
    "student": ("Prediction", "Student", "load_student"),
    "training": ("TrainProgress", "TrainReport", "train"),
}

__all__ = [
    "ROBUST",
    "LabelSet",
    "Prediction",
    "Student",
    "StudentConfig",
    "TrainProgress",
    "TrainReport",
    "TrainSettings",
    "load_student",
    "names_a_side",
    "read_pseudo_labels",
    "read_true_masks",
    "train",
]

__getattr__ = lazy_names(__name__, _HOMES)

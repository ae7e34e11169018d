"""From scans without labels to a trained model and its masks: what `lexiseg distill` does."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lexiseg.errors import NoLabels, UnwritableResult
from lexiseg.files import sha256_of
from lexiseg.io.names import printable
from lexiseg.io.read import read_scan
from lexiseg.pipelines import loading
from lexiseg.pipelines.preset import load_preset
from lexiseg.runs.segment import RunOptions, RunProgress, RunRequest, RunSummary, segment_files
from lexiseg.runs.table import read_record
from lexiseg.training.students.comparison import Comparison, compare
from lexiseg.training.students.config import CONFIG, WEIGHTS, read_config
from lexiseg.training.students.folder import write_comparison
from lexiseg.training.students.labels import VALIDATION, LabelSet, names_a_side, read_pseudo_labels
from lexiseg.training.students.predict import PredictRequest, predict_files, student_pipeline
from lexiseg.training.students.pseudo_labels import PseudoLabelReport, PseudoLabelRequest, make_pseudo_labels
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.train import TrainProgress, TrainReport, require_training, student_before, train
from lexiseg.values.scans import Image

logger = logging.getLogger(__name__)

MODEL, REFUSED = "model", "refused"
"""The student's folder: delivered, or one that looks worse than its teacher."""
LOOKED_AT = 24
"""Scans, at most, on which a student is laid beside its teacher; each is segmented four times."""


@dataclass(frozen=True, kw_only=True)
class DistillRequest:
    """What to label, how to train, and where to.

    Attributes:
        labels: the teacher's part; its `out` gets labels/, model/ and masks/.
        settings: of the training.
        deliver_anyway: a student that looks worse than its teacher is delivered all the same.
    """

    labels: PseudoLabelRequest
    settings: TrainSettings = field(default_factory=TrainSettings)
    deliver_anyway: bool = False


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What came of each part.

    Attributes:
        labels: of the teacher.
        training: of the student; its folder is model/, or refused/ where it was not delivered.
        comparison: of both, without labels; plain values, see `Comparison.as_dict`.
        delivered: whether the student is in model/ and drew the masks; else the teacher drew them.
        masks: the run that drew them.
    """

    labels: PseudoLabelReport
    training: TrainReport
    comparison: Mapping[str, Any]
    delivered: bool
    masks: RunSummary


def distill(
    request: DistillRequest,
    *,
    progress: Callable[[TrainProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
) -> DistillReport:
    """Label scans, train a student on the labels, and segment the same scans with it if it looks no worse.

    Before it is delivered the student is laid beside its teacher on scans that it did not learn from (`compare`). Where
    it looks worse, one line says why, it goes to refused/, and masks/ are the teacher's.

    Killed at any time and run again with `request.labels.resume` it goes on in the part where it was. The
    masks of the scans that the student learnt from are its second opinion on its own lessons: to judge it,
    predict scans that neither it nor its teacher saw.

    Args:
        request: see `DistillRequest`.
        progress: called with how far it is; its stages are "labelling", "reading", "training", "refreshing",
            "comparing" and "predicting".
        fetched: told (file, bytes done, bytes in all) while a model is fetched.

    Raises:
        UsageError: the request cannot be done as it is.
        LexisegError: as of `make_pseudo_labels`, `train` and `predict_files`.
    """
    require_training()  # before anything is labelled: that takes hours
    asked = request.labels
    labels = replace(asked, out=asked.out / "labels")

    def tell(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(TrainProgress(stage, done, total))

    def during(stage: str) -> Callable[[RunProgress], None]:
        return lambda run: tell(stage, int(run.done), run.total)

    student_before(asked.out / MODEL, resume=asked.resume)  # likewise
    made = make_pseudo_labels(labels, progress=during("labelling"), fetched=fetched)
    refused = asked.out / REFUSED
    # A refused student is trained no second time; what it is refused for may have changed.
    folder = refused if asked.resume and (refused / CONFIG).exists() else asked.out / MODEL
    known = read_pseudo_labels(labels.out)
    if len(known.rows) < 2:
        raise NoLabels(
            "1 image is left to learn from, where copies count once; a student needs two at least, and some dozens to "
            "learn something: give more scans, or use `lexiseg segment`"
        )
    trained = train(known, folder, request.settings, device=asked.device, resume=asked.resume, progress=progress)
    found = read_config(folder).comparison
    if not found:
        comparison = _beside_teacher(labels, known, folder, tell)
        found = comparison.as_dict()
        write_comparison(folder, replace(read_config(folder), comparison=found))
    delivered = request.deliver_anyway or not found["reasons"]
    place = asked.out / (MODEL if delivered else REFUSED)
    _move(folder, place)
    if found["reasons"]:
        what = "it is delivered all the same" if delivered else f"masks are the teacher's, and it is in {REFUSED}/"
        logger.warning("the student looks worse than its teacher: %s; %s", "; ".join(found["reasons"]), what)
    out = asked.out / "masks"
    # Masks that the other of the two drew are no part of this run: they are drawn anew.
    before = dict((read_record(out) or {}).get("models") or {})
    by_student = sha256_of(place / WEIGHTS) in {model.get("sha256") for model in before.values()}
    options = RunOptions(resume=asked.resume and by_student == delivered, seed=asked.seed)
    if delivered:
        masks = predict_files(
            PredictRequest(
                model=place,
                out=out,
                inputs=asked.inputs,
                manifest=asked.manifest,
                device=asked.device,
                precision=asked.precision,
                options=options,
            ),
            progress=during("predicting"),
        )
    else:
        masks = segment_files(
            RunRequest(
                out=out,
                phrases=asked.phrases,
                inputs=asked.inputs,
                manifest=asked.manifest,
                preset=asked.preset,
                changes=asked.changes,
                device=asked.device,
                precision=asked.precision,
                batch=asked.batch,
                tune=asked.tune,
                options=options,
            ),
            progress=during("predicting"),
        )
    training = replace(trained, folder=place)
    return DistillReport(labels=made, training=training, comparison=found, delivered=delivered, masks=masks)


def _beside_teacher(
    labels: PseudoLabelRequest, known: LabelSet, folder: Path, tell: Callable[[str, int, int], None]
) -> Comparison:
    """The student beside its teacher on scans that it did not learn from; where there are none, on others."""
    preset, look = load_preset(labels.preset, **labels.changes), (known.teacher.get("preset") or {}).get("look")
    if look and preset.reads("look"):
        preset = preset.override(look=look)  # as it was chosen for these scans
    rows = [row for row in known.rows if row.extra["split"] == VALIDATION]
    chosen = rows or list(known.rows)
    chosen = chosen[:: -(-len(chosen) // LOOKED_AT)]
    scans = [
        (scan, row.group or row.id) for row in chosen if isinstance(scan := read_scan(row.image, id=row.id), Image)
    ]
    return compare(
        loading.load(preset, device=labels.device, precision=labels.precision),
        student_pipeline(folder, device=labels.device, precision=labels.precision),
        scans,
        known.names,
        mirror=not names_a_side(known.names),
        held_out=bool(rows),
        progress=lambda done, total: tell("comparing", done, total),
    )


def _move(folder: Path, place: Path) -> None:
    """Put a student's folder where it belongs; an earlier student there goes."""
    if folder == place:
        return
    try:
        if place.exists():
            shutil.rmtree(place)
        os.replace(folder, place)  # noqa: PTH105  (a folder onto a name that is free)
    except OSError as error:
        raise UnwritableResult(f"{printable(str(place))}: it cannot be written ({error.strerror})") from error

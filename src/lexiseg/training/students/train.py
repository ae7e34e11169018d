"""A set of labels to a student's folder: what `lexiseg train` does."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.files import remove_torn
from lexiseg.io.names import printable
from lexiseg.runs.folder import only_run
from lexiseg.training.fabric import make_fabric
from lexiseg.training.logs import CURVES, Curve, Panel, draw_panels, write_table
from lexiseg.training.students.config import CONFIG, StudentConfig, read_config
from lexiseg.training.students.folder import remove_file, write_student, write_tuned
from lexiseg.training.students.labels import TRAIN, LabelSet
from lexiseg.training.students.samples import load_samples
from lexiseg.training.students.settings import TOWERS, TrainSettings
from lexiseg.training.students.start import read_start
from lexiseg.training.students.trainer import CHECKPOINT, Trainer
from lexiseg.training.students.tuning import chosen_network, tune
from lexiseg.version import __version__

logger = logging.getLogger(__name__)

LOG = "log.csv"


def require_training() -> None:
    """Pass where MONAI and Lightning are installed.

    Raises:
        UsageError: they are not; says what to install.
    """
    missing = [name for name in ("monai", "lightning") if find_spec(name) is None]
    if missing:
        raise UsageError(f"students need {' and '.join(missing)}: pip install 'lexiseg[train]'")


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        stage: "reading", "training" or "refreshing".
        done, total: scans or steps.
        loss: of the last step; NaN where there is none.
        score: the best validation Dice so far; NaN before the first check and without validation.
    """

    stage: str
    done: int
    total: int
    loss: float = math.nan
    score: float = math.nan


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """How a training ended.

    Attributes:
        folder: of the student.
        config: its description.
        early: whether patience ended it.
        before: whether it was there already.
        failed: scans that could not be read.
        seconds: wall time of this session.
    """

    folder: Path
    config: StudentConfig
    early: bool
    failed: int
    seconds: float
    before: bool = False


def train(
    labels: LabelSet,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainReport:
    """Train a student and write its folder.

    Writes config.json, model.safetensors, README.md (the model card), scans.csv, checksums, log.csv and
    curves.png. While it runs there is a checkpoint; killed at any time and run again with `resume`, it goes
    on from there to the weights that an unbroken run has.

    Args:
        labels: the set.
        out: the student's folder.
        settings: `TrainSettings()` when None.
        device: see `lexiseg.models.loading.resolve_device`.
        resume: go on where an earlier run of the same settings and set stopped; a finished one is left as it
            is.
        progress: is told how far it is.

    Raises:
        UsageError: MONAI is not installed; `out` holds a student already, or the checkpoint of another
            training, or another training is writing there; what it should begin from does not fit.
        UnknownModel, BrokenWeights: what it should begin from is no student, or damaged.
        NoLabels: there is nothing to learn.
        TrainingDiverged: the loss is not finite.
        UnwritableResult: the file system refused.
    """
    require_training()
    out, settings = Path(out), settings or TrainSettings()
    settings = replace(settings, network=chosen_network(settings, labels))
    with only_run(out):
        finished = _finished(out, settings, labels, resume=resume)
        if finished is not None:
            return TrainReport(folder=out, config=finished, early=False, failed=0, seconds=0.0, before=True)
        return _train(labels, out, settings, device=device, resume=resume, progress=progress)


def _train(
    labels: LabelSet,
    out: Path,
    settings: TrainSettings,
    *,
    device: str,
    resume: bool,
    progress: Callable[[TrainProgress], None] | None,
) -> TrainReport:
    began = time.monotonic()
    remove_torn(out)
    if labels.supervised:
        logger.info("training uses true masks: this is the supervised upper bound")

    def tell(stage: str, done: int, total: int, loss: float = math.nan, score: float = math.nan) -> None:
        if progress is not None:
            progress(TrainProgress(stage, done, total, loss, score))

    flips = settings.flips if settings.flips is not None else not labels.sided
    if all(row.extra["split"] == TRAIN for row in labels.rows):
        logger.warning(
            "nothing is held out, so nothing stops the training early: all scans are of one group, or the column split "
            "has all in train"
        )
    log = functools.partial(_write_log, folder=out, against=labels.kind)
    if settings.network == TOWERS:
        tuned = tune(
            labels,
            settings,
            checkpoint=out / CHECKPOINT,
            flips=flips,
            device=device,
            resume=resume,
            log=log,
            tell=tell,
        )
        _draw_curves(tuned.trained.history, out, against=labels.kind)
        described = replace(tuned.config, lessons=labels.digest())
        write_tuned(out, described, tuned.tensors, tuned.rows)
        remove_file(out / CHECKPOINT)
        seconds = time.monotonic() - began
        early, failed = tuned.trained.early, tuned.failed
        return TrainReport(folder=out, config=described, early=early, failed=failed, seconds=seconds)
    fabric, start = make_fabric(device, settings.precision), read_start(settings.start)
    samples = load_samples(labels, extent=settings.extent, progress=lambda done, total: tell("reading", done, total))
    trainer = Trainer(
        samples,
        classes=len(labels.names) + 1,
        settings=settings,
        start=start,
        flips=flips,
        fabric=fabric,
        checkpoint=out / CHECKPOINT,
        resume=resume,
        log=log,
        tell=tell,
    )
    trained = trainer.run()
    config = StudentConfig(
        names=labels.names,
        supervised=labels.supervised,
        channels=samples.channels,
        widths=settings.widths,
        residual_units=settings.residual_units,
        size=settings.size,
        extent=settings.extent,
        members=len(trained.members),
        flips=flips,
        score=None if math.isnan(trained.score) else round(trained.score, 4),
        scans={"train": int(samples.train.sum()), "val": int((~samples.train).sum())},
        teacher=labels.teacher,
        start={**start.record, "share": f"{trainer.anchor:.3f}"} if start is not None else {},
        settings=settings.as_dict(),
        lexiseg=__version__,
        lessons=labels.digest(),
    )
    _draw_curves(trained.history, out, against=labels.kind)
    write_student(out, config, trained.members, samples.rows)
    # Its corrected labels are patients' masks: they stay no longer than needed.
    remove_file(out / CHECKPOINT)
    seconds = time.monotonic() - began
    return TrainReport(folder=out, config=config, early=trained.early, failed=samples.failed, seconds=seconds)


def student_before(out: Path, *, resume: bool) -> StudentConfig | None:
    """The student that a folder holds already; None of a folder without one.

    Raises:
        UsageError: there is one, and nothing is to be resumed.
        UnknownModel, BrokenWeights: what is there is no student's.
    """
    if not (out / CONFIG).exists():
        return None
    if not resume:
        raise UsageError(f"{printable(str(out))}: it holds a finished model; choose another folder or remove it")
    return read_config(out)


def _finished(out: Path, settings: TrainSettings, labels: LabelSet, *, resume: bool) -> StudentConfig | None:
    """The student that `out` holds already, where that is the one asked for.

    Raises:
        UsageError: it is another, or was not to be resumed.
    """
    config = student_before(out, resume=resume)
    if config is None:
        return None
    same: Mapping[str, bool] = {
        "settings": dict(config.settings) == settings.as_dict(),
        "targets": config.names == labels.names,
        "kind of labels": config.supervised == labels.supervised,
        "scans or masks": config.lessons in ("", labels.digest()),
    }
    differing = [name for name, equal in same.items() if not equal]
    if differing:
        raise UsageError(
            f"{printable(str(out))}: it holds a finished model of other {' and '.join(differing)}; choose another "
            "folder or remove it"
        )
    return config


def _write_log(history: Sequence[Mapping[str, float]], folder: Path, *, against: str) -> None:
    """log.csv, a line for each check; `against` is what the scores compare with."""
    rows = [
        {name: "" if math.isnan(value) else value for name, value in row.items()} | {"labels": against}
        for row in history
    ]
    write_table(folder / LOG, list(rows[0]), rows, digits=6)


def _draw_curves(history: Sequence[Mapping[str, float]], folder: Path, *, against: str) -> None:
    """Loss and validation Dice by step, with a mark where a cycle ends."""
    steps = [row["step"] for row in history]
    marks = [before["step"] for before, row in pairwise(history) if row["cycle"] != before["cycle"]]
    loss = Curve(x=steps, y=[row["loss"] for row in history], style={})
    dice = Curve(x=steps, y=[row["validation_dice"] for row in history], style={"marker": "."})
    left = {"xlabel": "step", "ylabel": "Dice loss + cross-entropy", "title": "training"}
    right = {"xlabel": "step", "ylabel": "Dice", "ylim": (0, 1), "title": f"validation against {against}"}
    draw_panels(
        folder / CURVES,
        [Panel(curves=[loss], axes=left, marks=marks), Panel(curves=[dice], axes=right, marks=marks)],
    )

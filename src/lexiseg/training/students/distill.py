"""From scans without labels to a trained model and its masks: what `lexiseg distill` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lexiseg.runs.segment import RunOptions, RunProgress, RunSummary
from lexiseg.training.students.labels import read_pseudo_labels
from lexiseg.training.students.predict import PredictRequest, predict_files
from lexiseg.training.students.pseudo_labels import PseudoLabelReport, PseudoLabelRequest, make_pseudo_labels
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.train import TrainProgress, TrainReport, require_training, train


@dataclass(frozen=True, kw_only=True)
class DistillRequest:
    """What to label, how to train, and where to.

    Attributes:
        labels: the teacher's part; its `out` gets labels/, model/ and masks/.
        settings: of the training.
    """

    labels: PseudoLabelRequest
    settings: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What came of each part."""

    labels: PseudoLabelReport
    training: TrainReport
    masks: RunSummary


def distill(
    request: DistillRequest,
    *,
    progress: Callable[[TrainProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
) -> DistillReport:
    """Label scans, train a student on the labels, and segment the same scans with it.

    Killed at any time and run again with `request.labels.resume` it goes on in the part where it was. The
    masks of the scans that the student learnt from are its second opinion on its own lessons: to judge it,
    predict scans that neither it nor its teacher saw.

    Args:
        request: see `DistillRequest`.
        progress: called with how far it is; its stages are "labelling", "reading", "training", "refreshing"
            and "predicting".
        fetched: told (file, bytes done, bytes in all) while a model is fetched.

    Raises:
        UsageError: the request cannot be done as it is.
        LexisegError: as of `make_pseudo_labels`, `train` and `predict_files`.
    """
    require_training()  # before anything is labelled: that takes hours
    asked = request.labels
    labels = replace(asked, out=asked.out / "labels")

    def during(stage: str) -> Callable[[RunProgress], None]:
        def tell(run: RunProgress) -> None:
            if progress is not None:
                progress(TrainProgress(stage, int(run.done), run.total))

        return tell

    made = make_pseudo_labels(labels, progress=during("labelling"), fetched=fetched)
    trained = train(
        read_pseudo_labels(labels.out),
        asked.out / "model",
        request.settings,
        device=asked.device,
        resume=asked.resume,
        progress=progress,
    )
    masks = predict_files(
        PredictRequest(
            model=trained.folder,
            out=asked.out / "masks",
            inputs=asked.inputs,
            manifest=asked.manifest,
            device=asked.device,
            precision=asked.precision,
            options=RunOptions(resume=asked.resume, seed=asked.seed),
        ),
        progress=during("predicting"),
    )
    return DistillReport(labels=made, training=trained, masks=masks)

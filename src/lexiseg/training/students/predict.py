"""A student over files: what `lexiseg predict` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import BadPhrase, UsageError
from lexiseg.io.names import printable
from lexiseg.io.sources import SourceOptions
from lexiseg.pipelines import loading
from lexiseg.pipelines.base import StageTimer
from lexiseg.pipelines.baselines import NoEncoder
from lexiseg.pipelines.preset import load_preset
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.regions.threshold import clean_mask
from lexiseg.runs.batch import run_batch
from lexiseg.runs.folder import check_folder
from lexiseg.runs.items import gather_items
from lexiseg.runs.segment import Pipeline, RunOptions, RunProgress, RunSummary
from lexiseg.training.students.config import read_config
from lexiseg.training.students.settings import UNET
from lexiseg.training.students.student import Prediction, Student, load_student
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Mask, Prompts, Region, Saliency
from lexiseg.values.overlap import expected_dice
from lexiseg.values.scans import Planes, Scan

MIN_AREA = 0.0005
"""Pieces smaller than this fraction of a slice are dropped, as in the demo preset."""


@dataclass(frozen=True, kw_only=True)
class StudentPreset:
    """What a student's run is made with, for the record.

    Attributes:
        name: of the results' table.
        about: one line for a person.
        segmenter: the student's folder.
        mask: how its probabilities become masks.
        pipeline: a preset's word for a student.
        encoder: a student has none.
    """

    name: str
    about: str
    segmenter: str
    mask: Mapping[str, Any]
    pipeline: str = "student"
    encoder: str = "none"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for run.json."""
        return asdict(self)


class StudentPipeline:
    """Answers like a preset's pipeline, for the targets that the student knows.

    Presence is the largest probability of the target anywhere; confidence of a mask is the Dice overlap that
    the student itself expects, 2 sum(p m) / (sum p + sum m), and of an empty one 1 - presence. Both are what
    a network thinks of itself: high on what it knows, not to be trusted on other kinds of scans.

    Args:
        student: see `lexiseg.training.students.student.load_student`.
        flips: look at the mirrored scan too; None: see `StudentConfig.mirror`.
        uncertainty: keep the map in the result.
        min_confidence: a slice's mask of which the student expects a lower Dice is left empty.

    Raises:
        UsageError: `min_confidence` is not from 0 to 1.
    """

    def __init__(
        self,
        student: Student,
        *,
        flips: bool | None = None,
        uncertainty: bool = True,
        min_confidence: float = 0.0,
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"--min-confidence is {min_confidence}; expected 0 to 1")
        self._least = min_confidence
        config = student.config
        self._flips = flips
        self._uncertainty = uncertainty
        self.segmenter = student
        self.encoder = NoEncoder(student.device, student.precision)
        self.preset = StudentPreset(
            name="student-supervised" if config.supervised else "student",
            about=f"trained on {config.labels}",
            segmenter=student.weights.name,
            mask={
                "mirror": config.mirror(flips),
                "min_area": MIN_AREA,
                "min_confidence": min_confidence,
                "uncertainty": uncertainty,
            },
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Settings and weights, as plain values."""
        return {
            "preset": self.preset.as_dict(),
            "encoder": {"name": self.encoder.name},
            "segmenter": self.segmenter.weights.as_dict(),
        }

    def __call__(
        self,
        scan: Scan,
        phrases: Sequence[str],
        *,
        keep_stages: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> Result:
        """Segment a scan, a volume slice by slice.

        Args:
            scan: an image or a volume.
            phrases: some of the student's targets.
            keep_stages: keep the probability as saliency and region, the one map that a student has.
            progress: called with the share done.

        Raises:
            BadPhrase: the student does not know a phrase.
        """
        known = self.segmenter.config.names
        unknown = [phrase for phrase in phrases if phrase not in known]
        if unknown:
            raise BadPhrase(f"the student does not know {unknown[0]!r}; it knows {', '.join(known)}")
        timer = StageTimer()
        predictions: list[Prediction] = []
        planes = self.planes(scan)
        for plane in planes:
            with timer("student"):
                predictions.append(self.segmenter.predict(plane.pixels, flips=self._flips))
            if progress is not None:
                progress((plane.index + 1) / len(planes))
        labels = [_labels(each.probabilities, self._least) for each in predictions]
        targets = tuple(
            _target(phrase, known.index(phrase) + 1, labels, predictions, planes, keep=keep_stages)
            for phrase in phrases
        )
        mask = np.zeros(scan.shape, np.uint8)
        for k, target in enumerate(targets, start=1):
            mask[target.mask] = k
        uncertainty = planes.assemble([each.uncertainty for each in predictions]) if self._uncertainty else None
        return Result(
            id=scan.id,
            targets=targets,
            mask=Mask(mask, tuple(phrases)),
            seconds=timer.seconds(),
            provenance=self.provenance,
            planes=planes.record(),
            uncertainty=uncertainty,
        )

    def planes(self, scan: Scan, phrases: Sequence[str] = ()) -> Planes:
        """The planes of a scan as the student sees them: those of acquisition, by the file's window, for any phrase."""
        return scan.planes()


def _labels(probabilities: FloatArray, least: float) -> np.ndarray:
    """The likeliest class of each pixel, without specks and what is not trusted."""
    labels: np.ndarray = probabilities.argmax(0)
    for k in range(1, len(probabilities)):
        found: BoolArray = labels == k
        kept = clean_mask(found, min_area=MIN_AREA)
        if expected_dice([probabilities[k]], [kept]) < least:
            kept = np.zeros_like(kept)
        labels[found & ~kept] = 0
    return labels


def _target(
    phrase: str,
    label: int,
    labels: list[np.ndarray],
    predictions: list[Prediction],
    planes: Planes,
    *,
    keep: bool,
) -> TargetResult:
    masks = [each == label for each in labels]
    probabilities = [each.probabilities[label] for each in predictions]
    presence = float(max(each.max() for each in probabilities))
    present = any(bool(mask.any()) for mask in masks)
    confidence = expected_dice(probabilities, masks) if present else 1 - presence
    return TargetResult(
        phrase=phrase,
        mask=planes.assemble(masks),
        present=present,
        presence=min(1.0, presence),
        confidence=min(1.0, max(0.0, confidence)),
        probability=planes.assemble(probabilities) if keep or planes.axes is None else None,
        prompts=(Prompts(),) * len(masks),
        saliency=tuple(Saliency(p, phrase, float(p.max())) for p in probabilities) if keep else (),
        region=tuple(Region(m, p) for m, p in zip(masks, probabilities, strict=True)) if keep else (),
    )


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
        device: see `lexiseg.models.loading.resolve_device`.
        precision: "auto", "float32" or "bfloat16".
        options: see `RunOptions`.
        reading: which series of a folder, and which volume of several.
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
    reading: SourceOptions = field(default_factory=SourceOptions)


def predict_files(request: PredictRequest, *, progress: Callable[[RunProgress], None] | None = None) -> RunSummary:
    """Segment files into a folder, with the same files and tables as `segment_files`.

    Args:
        request: see `PredictRequest`.
        progress: called with how far the run is.

    Raises:
        UsageError: the request cannot be done as it is, or the model's folder is none.
        LexisegError: the model is damaged, or results cannot be written.
    """
    config = read_config(request.model)
    names = config.names
    items = gather_items(request.inputs, manifest=request.manifest, phrases=names, reading=request.reading)
    check_folder(request.out, items)
    pipeline = student_pipeline(
        request.model,
        device=request.device,
        precision=request.precision,
        flips=request.flips,
        uncertainty=request.uncertainty,
        min_confidence=request.min_confidence,
    )
    return run_batch(
        pipeline,
        items,
        request.out,
        phrases=names,
        options=request.options,
        progress=progress,
        reading=request.reading.record(),
    )


def student_pipeline(
    folder: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    flips: bool | None = None,
    uncertainty: bool = False,
    min_confidence: float = 0.0,
) -> Pipeline:
    """Whatever answers as the student of a folder: a U-Net, or the teacher's pipeline with the tuned encoder.

    Args:
        folder: as `lexiseg train` wrote it.
        device: see `lexiseg.models.loading.resolve_device`.
        precision: "auto", "float32" or "bfloat16".
        flips, uncertainty, min_confidence: see `StudentPipeline`; a tuned encoder has no such settings.

    Raises:
        UsageError: a setting that this student does not have; MONAI is not installed.
        UnknownModel, BrokenWeights: the folder is no student's, or damaged.
    """
    if read_config(folder).network == UNET:
        student = load_student(folder, device=device, precision=precision)
        return StudentPipeline(student, flips=flips, uncertainty=uncertainty, min_confidence=min_confidence)
    if flips is not None or min_confidence > 0:
        raise UsageError(
            "--flips and --min-confidence are a U-Net's; this student is a tuned encoder, which has a presence to cut: "
            f"lexiseg segment --threshold X --preset {printable(str(folder))}"
        )
    return loading.load(load_preset(folder), device=device, precision=precision)

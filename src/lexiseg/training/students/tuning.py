"""A set of labels to a student that is the bundled encoder, tuned: what `lexiseg train --network towers` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import BrokenWeights, UnknownModel, UsageError
from lexiseg.io.names import printable
from lexiseg.models.loading import load_encoder, resolve_device
from lexiseg.models.weights.records import bundled_folder, parse_reference, weights_info
from lexiseg.pipelines.preset import Preset, load_preset
from lexiseg.text.embedding import embed_phrases
from lexiseg.text.known import bundled_vocabulary
from lexiseg.text.phrases import phrase_set
from lexiseg.training.students.config import StudentConfig, read_config
from lexiseg.training.students.labels import LabelSet
from lexiseg.training.students.settings import AUTO, BUNDLED, NOTHING, TOWERS, UNET, TrainSettings
from lexiseg.training.students.towers import PhraseTowers, model_names
from lexiseg.training.students.towers_data import load_pool, look_of
from lexiseg.training.students.towers_trainer import TowersTrained, TowersTrainer
from lexiseg.version import __version__

Tell = Callable[[str, int, int, float, float], None]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of `tune`.

    Attributes:
        config: the student's description.
        tensors: what was tuned, by its name in the open_clip model.
        rows: the scans that it saw.
        trained: score and history.
        failed: scans that could not be read.
    """

    config: StudentConfig
    tensors: Mapping[str, Tensor]
    rows: tuple[ManifestRow, ...]
    trained: TowersTrained
    failed: int


def chosen_network(settings: TrainSettings, labels: LabelSet) -> str:
    """The network that a set is learnt by: "towers" or "unet".

    Where nothing is asked for, it is the bundled encoder's towers, if the bundled encoder was the teacher (or the masks
    are true ones) and knows every target; a U-Net otherwise.

    Raises:
        UsageError: the towers are asked for, and the bundled encoder does not know a target.
    """
    vocabulary = bundled_vocabulary()
    unknown = [name for name in labels.names if not vocabulary.knows(name)]
    if settings.network == TOWERS and unknown:
        raise UsageError(
            f"--network towers: the bundled encoder does not know {printable(unknown[0])!r}, so it has nothing to "
            "begin from; use --network unet"
        )
    if settings.network != AUTO:
        return settings.network
    teacher = preset_of(labels)
    by_bundled = labels.supervised or (teacher.needs_encoder and teacher.encoder == BUNDLED)
    return TOWERS if by_bundled and not unknown else UNET


def preset_of(labels: LabelSet) -> Preset:
    """The teacher's preset; of true masks the default one."""
    fields = dict(labels.teacher.get("preset") or {})
    fields.pop("mirrored", None)  # it looked twice, which its student need not
    if not fields:
        return load_preset("demo")
    return Preset(name=str(fields.pop("name", "teacher"))).override(**fields)


def tune(
    labels: LabelSet,
    settings: TrainSettings,
    *,
    checkpoint: Path,
    flips: bool,
    device: str,
    resume: bool,
    log: Callable[[list[dict[str, float]]], object],
    tell: Tell,
) -> Tuned:
    """Tune the bundled encoder on a set.

    Args:
        labels: the set.
        settings: see `TrainSettings`.
        checkpoint: the file that a killed training goes on from.
        flips: whether scans may be mirrored.
        device: see `lexiseg.models.loading.resolve_device`.
        resume: go on from the checkpoint.
        log: is called with the history after each check.
        tell: is told (stage, done, total, loss, score).

    Raises:
        UsageError: what it should begin from is no such encoder.
        NoLabels: there is nothing to learn.
        TrainingDiverged: the loss is not finite.
    """
    place = resolve_device(device)
    if settings.start == NOTHING:
        raise UsageError("--start none: the towers have nothing to learn from but what they know; use --network unet")
    try:
        parse_reference(preset_of(labels).segmenter, "segmenter")
    except UnknownModel as error:
        raise UsageError(
            f"--network towers: the teacher's segmenter {preset_of(labels).segmenter!r} lies where the set does not "
            "say; use a bundled one or one of the hub, or --network unet"
        ) from error
    _refuse_unet(settings.start)
    encoder: Any = load_encoder(settings.start, device=str(place), precision="float32")
    preset = preset_of(labels)
    look = look_of(encoder, preset)
    phrases = embed_phrases(encoder, [phrase_set(name, ensemble=preset["phrases"].ensemble) for name in labels.names])
    network = PhraseTowers(
        encoder,
        torch.stack([each.positive for each in phrases]),
        lines=[each.calibration[:2] for each in phrases],
        part=settings.part,
    )
    pool = load_pool(labels, look, progress=lambda done, total: tell("reading", done, total, math.nan, math.nan))
    trainer = TowersTrainer(
        network,
        pool,
        look=look,
        settings=settings,
        flips=flips,
        device=place,
        checkpoint=checkpoint,
        start=encoder.weights.sha256,
        resume=resume,
        log=log,
        tell=tell,
    )
    trained = trainer.run()
    config = StudentConfig(
        network=TOWERS,
        names=labels.names,
        supervised=labels.supervised,
        channels=3,
        widths=(),
        residual_units=0,
        size=look.size,
        extent=look.size,
        members=1,
        flips=flips,
        score=None if math.isnan(trained.score) else round(trained.score, 4),
        scans={"train": int(pool.train.sum()), "val": int((~pool.train).sum())},
        teacher=labels.teacher,
        start=_record(settings.start, trained.share),
        preset={**preset.as_dict(), "encoder": BUNDLED},
        settings=settings.as_dict(),
        lexiseg=__version__,
    )
    return Tuned(config, model_names(encoder, trained.tensors), pool.rows, trained, pool.failed)


def _refuse_unet(start: str) -> None:
    """Pass whatever is no U-Net student: towers cannot begin from one."""
    with suppress(UnknownModel, BrokenWeights):
        if start != BUNDLED and read_config(Path(start)).network == UNET:
            raise UsageError(f"--start {printable(start)}: it is a U-Net student; give --network unet too")


def _record(name: str, share: float) -> Mapping[str, str]:
    """What the tuned tensors belong to: always the weights that ship, since only what differs from them is kept."""
    info = weights_info(BUNDLED, bundled_folder("encoder") / "open_clip_model.safetensors")
    return {"name": name, "sha256": info.sha256, "licence": info.licence, "share": f"{share:.3f}"}

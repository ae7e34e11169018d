"""Fine-tune a vision-language encoder on image-caption pairs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lexiseg.datasets.pairs.pairs import PairSet
from lexiseg.datasets.pairs.read import read_pairs
from lexiseg.errors import UsageError
from lexiseg.files import atomic_write, remove_torn
from lexiseg.io.taken import refuse_taken
from lexiseg.models.encoders.open_clip import OpenClipEncoder, require_open_clip
from lexiseg.models.encoders.open_clip_folder import CONFIG_NAME
from lexiseg.models.loading import load_encoder, resolve_device
from lexiseg.runs.folder import only_run
from lexiseg.training.fabric import make_fabric
from lexiseg.training.finetuning.data import TrainingData, training_data
from lexiseg.training.finetuning.logs import Row
from lexiseg.training.finetuning.parameters import add_adapters, choose_trainable
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.finetuning.trainer import CHECKPOINT, Trainer
from lexiseg.version import __version__

logger = logging.getLogger(__name__)

LOGS = "training"
_MODELS = ("config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
RECORD = "run.json"


@dataclass(frozen=True)
class FinetuneProgress:
    """What is going on.

    Attributes:
        stage: "reading", "measuring" or "training".
        done: images, or steps.
        total: of them.
        epoch: that is being trained, from 1; 0 before.
        loss: of the last step; NaN before.
        top1: of the last validation; NaN before.
    """

    stage: str
    done: int
    total: int
    epoch: int = 0
    loss: float = float("nan")
    top1: float = float("nan")


@dataclass(frozen=True)
class FinetuneReport:
    """What came of a run.

    Attributes:
        folder: an open_clip folder with the best epoch's weights, and `training/` with log and checkpoint.
        history: one row for each epoch; the first is the encoder before.
        best_epoch: the epoch whose weights were written.
        stopped_early: whether patience ended the run.
        train: pairs that were trained on.
        validation: pairs that were measured with.
        skipped: pairs that could not be used.
    """

    folder: Path
    history: tuple[Row, ...]
    best_epoch: int
    stopped_early: bool
    train: int
    validation: int
    skipped: int


def finetune(
    pairs: str | Path | PairSet,
    out: str | Path,
    *,
    encoder: str = "bundled",
    settings: FinetuneSettings | None = None,
    device: str = "auto",
    devices: int = 1,
    resume: bool = False,
    progress: Callable[[FinetuneProgress], None] | None = None,
    fetched: Callable[[str, int, int], None] | None = None,
) -> FinetuneReport:
    """Train an encoder's towers to tell which caption belongs to which image.

    After every epoch the retrieval on the validation pairs is measured; the best epoch's weights are written
    to `out` as an open_clip folder, and everything that a continuation needs to ``training/last.pt``.
    Batches, augmentation and dropout are functions of the seed and the step, so that a run that was killed
    and resumed takes the steps that an unbroken one would have taken, to the last bit on the same machine.

    Args:
        pairs: as for `lexiseg.datasets.pairs.read.read_pairs`, or pairs that were read.
        out: folder for the encoder, the log and the checkpoint.
        encoder: as for `lexiseg.models.loading.load_encoder`.
        settings: `FinetuneSettings()` when None.
        device: "auto", "cpu", "cuda" or "cuda:N".
        devices: processes, each with a device of its own; 0 takes what a launcher such as torchrun says.
        resume: go on from the checkpoint in `out`, or begin where there is none.
        progress: told what is going on.
        fetched: told (file, bytes done, bytes in all) while a hub model is fetched.

    Raises:
        UsageError: a bad table, setting or device; a folder that holds another run or model, or that another run
            is writing to; lightning is missing.
        TrainingDiverged: the loss or its gradient is not finite.
        UnwritableResult: the disk is full; the last checkpoint and encoder are whole.
        LexisegError: an encoder that cannot be loaded.
    """
    settings, out = settings or FinetuneSettings(), Path(out)
    _refuse_other_work(out, resume=resume)
    where = resolve_device(device)
    fabric = make_fabric(where, settings.precision, devices=devices)
    tell = progress or (lambda _: None)
    found = pairs if isinstance(pairs, PairSet) else read_pairs(pairs, min_caption=settings.min_caption)
    model = require_open_clip(load_encoder(encoder, device=str(fabric.device), precision="float32", progress=fetched))
    if model.judges_words:
        told = "the tuned encoder answers any phrase: which wordings %s was taught is not carried over"
        logger.warning(told, encoder)
    data = training_data(
        found, model.input_size, settings,
        progress=lambda done, total: tell(FinetuneProgress("reading", done, total)),
    )  # fmt: skip
    # Adapters begin at random: every process, and every continuation, must begin alike.
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        if settings.lora_rank:
            add_adapters(model.model, rank=settings.lora_rank, freeze=settings.freeze)
        choose_trainable(model.model, settings)
        # One of several processes holds the folder for all of them.
        with only_run(out) if fabric.global_rank == 0 else nullcontext():
            if fabric.global_rank == 0:
                remove_torn(out, out / LOGS)
            # Before the record: it refuses to go on from another run, whose record stays.
            trainer = Trainer(fabric, model, data, settings, out, resume=resume, tell=_teller(tell))
            if fabric.global_rank == 0:
                _write_record(out / LOGS / RECORD, model, data, settings)
            return _report(trainer.run(), trainer, data, out)


def _refuse_other_work(out: Path, *, resume: bool) -> None:
    """Refuse a folder whose files a run would write over."""
    refuse_taken(out, {})
    if (out / LOGS / CHECKPOINT).exists() and not resume:
        raise UsageError(f"{out} holds a run already; resume it (--resume) or choose another folder")
    # A run's own record comes first, its checkpoint after the first epoch's encoder.
    ours = any((out / LOGS / name).exists() for name in (RECORD, CHECKPOINT))
    found = next((name for name in (CONFIG_NAME, *_MODELS) if (out / name).exists()), "")
    if found and not ours:
        raise UsageError(f"{out} holds a model of another making ({found}); choose another folder")


def _teller(tell: Callable[[FinetuneProgress], None]) -> Callable[..., None]:
    def told(stage: str, done: int, total: int, **more: Any) -> None:
        tell(FinetuneProgress(stage, done, total, **more))

    return told


def _write_record(path: Path, model: OpenClipEncoder, data: TrainingData, settings: FinetuneSettings) -> None:
    content = {
        "lexiseg": __version__,
        "torch": torch.__version__,
        "encoder": model.weights.as_dict() if model.weights else {"name": model.name},
        "settings": settings.as_dict(),
        "train_pairs": len(data.train),
        "validation_pairs": len(data.validation),
        "skipped": [[each.where, each.reason] for each in data.skipped],
        "pairs_digest": data.digest,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def _report(stopped: bool, trainer: Trainer, data: TrainingData, out: Path) -> FinetuneReport:
    state = trainer.state
    return FinetuneReport(
        folder=out,
        history=tuple(state.history),
        best_epoch=state.best_epoch,
        stopped_early=stopped,
        train=len(data.train),
        validation=len(data.validation),
        skipped=len(data.skipped),
    )

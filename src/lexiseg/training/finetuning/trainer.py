"""The loop: epochs of steps, validation, checkpoints, the best encoder kept."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lexiseg.errors import UsageError
from lexiseg.evaluation.retrieval import DIRECTIONS, RetrievalSettings
from lexiseg.evaluation.statistics import Bootstrap
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.training.checkpoint import load_checkpoint, save_checkpoint
from lexiseg.training.fabric import restore_scaler, scaler_of, scaler_state
from lexiseg.training.finetuning.batches import Batch, Batches
from lexiseg.training.finetuning.data import TrainingData
from lexiseg.training.finetuning.embedding import measure_retrieval, padding_of, tokenize
from lexiseg.training.finetuning.export import export_encoder
from lexiseg.training.finetuning.logs import Row, RunLog
from lexiseg.training.finetuning.parameters import rate_factors, without_adapters
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.finetuning.step import Towers, accumulate_gradient
from lexiseg.training.optimizing import adamw, parameter_groups, refuse_infinite, set_rate
from lexiseg.training.schedule import cosine, halving, warm_up

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
_BETAS, _EPS = (0.9, 0.98), 1e-6  # those of CLIP
_MEASURES = ("top-1", "top-2", "recall@1", "recall@5")


@dataclass
class RunState:
    """How far a run has come.

    Attributes:
        epoch: epochs that are finished.
        step: steps that are finished.
        best: the best validation retrieval so far (top-1, mean of both directions).
        best_epoch: when that was; 0 before the first epoch.
        stale: epochs since.
        history: one row for each epoch, and one for the encoder before training.
    """

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    best_epoch: int = 0
    stale: int = 0
    history: list[Row] = field(default_factory=list)


def rate_factor(step: int, *, settings: FinetuneSettings, per_epoch: int) -> float:
    """The factor of the learning rate at a step, 0 to 1.

    Args:
        step: counted from 0 over all epochs.
        settings: `schedule`, `warmup`, `halve_every` and `epochs` count.
        per_epoch: steps in an epoch.
    """
    steps = settings.epochs * per_epoch
    warm = round(settings.warmup * steps)
    if step < warm:
        return warm_up(step, warm)
    if settings.schedule == "halving":
        return halving(step // per_epoch, every=settings.halve_every)
    if settings.schedule == "cosine":
        return cosine(step - warm, steps - warm)
    return 1.0


class Trainer:
    """Trains an encoder whose trainable weights are chosen already.

    Args:
        fabric: device, precision and processes.
        encoder: is trained in place.
        data: pairs and images.
        settings: of the run.
        out: folder of the encoder; log and checkpoint go to `training/` in it.
        resume: go on from the checkpoint, where there is one.
        tell: told (stage, done, total, epoch=, loss=, top1=).

    Raises:
        UsageError: the checkpoint belongs to another run.
    """

    def __init__(
        self,
        fabric: Fabric,
        encoder: OpenClipEncoder,
        data: TrainingData,
        settings: FinetuneSettings,
        out: Path,
        *,
        resume: bool,
        tell: Callable[..., None],
    ) -> None:
        self.fabric, self.encoder, self.data, self.settings, self.out = fabric, encoder, data, settings, out
        self._tell = tell
        self.state = RunState()
        self.batches = Batches(
            data.train, data.store, tokenize(encoder, [pair.text for pair in data.train]), encoder.mean,
            settings, padding=padding_of(encoder), rank=fabric.global_rank, world=fabric.world_size,
        )  # fmt: skip
        if self.batches.size < 2:
            raise UsageError(
                f"a batch of {settings.batch} over {fabric.world_size} processes compares nothing; "
                "expected at least 2 pairs"
            )
        if self.batches.size < settings.batch:
            logger.warning("%d pairs: a batch is %d of them", len(data.train), self.batches.size)
        self.bare = Towers(encoder).to(memory_format=torch.channels_last)
        groups = parameter_groups(
            encoder.model,
            weight_decay=settings.weight_decay,
            factor=rate_factors(encoder.model, layer_decay=settings.layer_decay),
        )
        self.optimizer: Any = adamw(groups, device=fabric.device, lr=settings.learning_rate, betas=_BETAS, eps=_EPS)
        self._identity = {
            **settings.as_dict(), "about": "", "pairs": data.digest, "processes": fabric.world_size,
            "encoder": encoder.weights.sha256 if encoder.weights else encoder.name,
        }  # fmt: skip
        self.checkpoint = out / "training" / CHECKPOINT
        kept: dict[str, Any] = {}
        if resume and self.checkpoint.exists():
            self.state, kept = load_checkpoint(self.checkpoint, RunState, self._identity)
            self.bare.load_state_dict(kept["towers"])
            self.optimizer.load_state_dict(kept["optimizer"])
        self.towers, self.optimizer = fabric.setup(self.bare, self.optimizer)
        restore_scaler(fabric, kept.get("scaler"))

    def run(self) -> bool:
        """Train to the end.

        Returns:
            Whether patience ended it before the last epoch.

        Raises:
            TrainingDiverged: a loss or gradient is not finite.
            UnwritableResult: the file system refused.
        """
        state, settings = self.state, self.settings
        log = RunLog(self.out / "training", step=state.step) if self.fabric.is_global_zero else None
        try:
            if not state.history:
                state.history.append(self._measure(epoch=0, loss=math.nan, began=time.monotonic()))
            while state.epoch < settings.epochs and not self._patience_ended():
                began = time.monotonic()
                loss = self._train_epoch(log)
                self._end_epoch(self._measure(epoch=state.epoch + 1, loss=loss, began=began), log)
            if log is not None:
                log.draw(state.history)
        finally:
            if log is not None:
                log.close()
        if state.history and state.best <= state.history[0]["top-1"]:
            logger.warning("no epoch found more pairs than the encoder before; the best epoch was written")
        return state.epoch < settings.epochs

    def _patience_ended(self) -> bool:
        return 0 < self.settings.patience <= self.state.stale

    def _train_epoch(self, log: RunLog | None) -> float:
        """One epoch; returns the mean loss."""
        self.bare.train()
        total, per_epoch, state = 0.0, self.batches.per_epoch, self.state
        for batch in self.batches.epoch(state.epoch):
            rate, loss, norm = self._step(batch)
            total += loss
            if log is not None:
                row = {"step": batch.step, "epoch": state.epoch + 1, "loss": loss, "rate": rate}
                log.step({**row, "gradient_norm": norm})
            self._tell(
                "training", batch.step + 1, per_epoch * self.settings.epochs,
                epoch=state.epoch + 1, loss=loss, top1=state.history[-1]["top-1"],
            )  # fmt: skip
        return total / per_epoch

    def _step(self, batch: Batch) -> tuple[float, float, float]:
        """One step of the optimiser: its rate, the loss and the gradient's norm."""
        settings = self.settings
        rate = settings.learning_rate * rate_factor(batch.step, settings=settings, per_epoch=self.batches.per_epoch)
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss = float(accumulate_gradient(self.fabric, self.towers, batch, settings))
        self._refuse("loss", loss, batch.step)
        found = self.fabric.clip_gradients(
            self.towers, self.optimizer, max_norm=settings.clip or math.inf, error_if_nonfinite=False
        )
        norm = float(found) if found is not None else math.nan
        if scaler_of(self.fabric) is None:  # a scaler skips steps whose gradient overflowed, and goes on smaller
            self._refuse("gradient", norm, batch.step)
        self.optimizer.step()
        if settings.temperature == 0:
            self.bare.keep_scale_in_range()
        self.state.step = batch.step + 1
        return rate, loss, norm

    def _refuse(self, what: str, value: float, step: int) -> None:
        epoch = self.state.epoch
        kept = (
            f"{self.checkpoint} is the checkpoint after epoch {epoch} and {self.out} the best encoder"
            if epoch
            else "no epoch was finished"
        )
        rate = self.settings.learning_rate
        advice = f"{kept}; try a smaller learning rate than {rate:g}, or precision=float32"
        refuse_infinite(what, value, step=step, advice=advice)

    def _measure(self, *, epoch: int, loss: float, began: float) -> Row:
        """Validation retrieval by the first process, told to all."""
        row: Row = {}
        self.bare.eval()
        if self.fabric.is_global_zero:
            settings = RetrievalSettings(gallery=self.settings.gallery, bootstrap=Bootstrap(resamples=1))
            found = measure_retrieval(
                self.encoder, self.data.validation, self.data.store, settings=settings,
                progress=lambda done, total: self._tell("measuring", done, total, epoch=epoch),
            )  # fmt: skip
            row = {"epoch": epoch, "step": self.state.step, "loss": loss, "top-1": found.mean_top1}
            row |= {
                f"{measure} {direction}": found.score(direction, measure).value
                for direction in DIRECTIONS
                for measure in _MEASURES
            }
            row["seconds"] = round(time.monotonic() - began, 3)
        told: Row = self.fabric.broadcast(row)
        return told

    def _end_epoch(self, row: Row, log: RunLog | None) -> None:
        """Note an epoch, write its encoder if it is the best, and then the checkpoint."""
        state = self.state
        state.epoch += 1
        state.history.append(row)
        better = row["top-1"] > state.best
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best, state.best_epoch = row["top-1"], state.epoch
        if log is not None:
            if better:
                model = self.encoder.model
                plain = without_adapters(model) if self.settings.lora_rank else model
                export_encoder(self.encoder, plain, self.out)
            tensors = {
                "towers": self.bare.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler_state(self.fabric),
            }
            save_checkpoint(self.checkpoint, state, tensors, self._identity)
            log.epoch(state.history)
        self.fabric.barrier()

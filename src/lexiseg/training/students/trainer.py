"""The loop: steps, checks against held-out labels, cycles, checkpoints."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.training.average import follow, ramped
from lexiseg.training.checkpoint import load_checkpoint, save_checkpoint
from lexiseg.training.fabric import restore_scaler, scaler_state
from lexiseg.training.optimizing import refuse_infinite, set_rate
from lexiseg.training.schedule import cycle_of, cycle_rate
from lexiseg.training.students.batches import Augment, Batches
from lexiseg.training.students.network import build_network, mean_probabilities, overlaps, scan_losses, validation_dice
from lexiseg.training.students.robust import balanced, choose_members, corrected, exchange, kept_share, smallest
from lexiseg.training.students.samples import Samples
from lexiseg.training.students.settings import TrainSettings
from lexiseg.training.students.start import Start, begin, drawn_back, share_of_start

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_CLIP = 5.0
_LAG = 10
"""Of the running average: see `ramped`."""
_ASKED = 256
"""Of how many training scans, at most, the start is asked what it draws."""
Weights = Mapping[str, Tensor]
Tell = Callable[[str, int, int, float, float], None]
"""Is told (stage, done, total, loss, score)."""


@dataclass
class TrainState:
    """How far a training has come.

    Attributes:
        step: steps that are finished.
        cycles: for each cycle begun, its best check: "score" (NaN where there is no validation) and "step".
        stale: checks since the best of all.
        history: one row for each check.
        ended: whether patience ended it.
    """

    step: int = 0
    cycles: list[dict[str, float]] = field(default_factory=list)
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training.

    Attributes:
        members: the weights of each network of the student.
        score: validation Dice of the best check; NaN where nothing was held out.
        history: a row for each check.
        early: whether patience ended it.
    """

    members: tuple[Weights, ...]
    score: float
    history: tuple[Mapping[str, float], ...]
    early: bool


class Trainer:
    """Trains one student (with co-teaching: two networks at once).

    Args:
        samples: what it learns from.
        classes: background and each target.
        settings: how.
        start: what the network begins from; of co-teaching's two, the first alone, since networks that begin
            alike make the same mistakes.
        flips: whether scans may be mirrored.
        fabric: where.
        checkpoint: the file that a killed run goes on from.
        log: is called with the history after each check.
        tell: see `Tell`.

    Attributes:
        anchor: the start's share in the weights that are kept, 0 to 1; 0 without a start.

    Raises:
        UsageError: with `resume`, the checkpoint is of another training; the start does not fit.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        classes: int,
        settings: TrainSettings,
        start: Start | None,
        flips: bool,
        fabric: Fabric,
        checkpoint: Path,
        resume: bool,
        log: Callable[[list[dict[str, float]]], object],
        tell: Tell,
    ) -> None:
        self.samples, self.settings, self.fabric = samples, settings, fabric
        self.checkpoint, self._log, self._tell = checkpoint, log, tell
        cyclic = {"snapshots", "refresh"} & set(settings.options)
        self.cycles = min(settings.cycles, settings.count) if cyclic else 1
        weights = balanced(samples.weights) if "weighting" in settings.options else np.ones_like(samples.weights)
        augment = Augment(size=settings.size, extent=settings.extent, flips=flips)
        self.batches = Batches(samples, weights, size=settings.batch, augment=augment, seed=settings.seed)
        self.labels = samples.labels.clone()
        bare = [
            build_network(
                channels=samples.channels, classes=classes, widths=settings.widths,
                residual_units=settings.residual_units, seed=settings.seed + 7919 * k,
            ).to(fabric.device)
            for k in range(2 if "co-teaching" in settings.options else 1)
        ]  # fmt: skip
        self._begun = [begin(bare[0], start) if start is not None else {}, *({} for _ in bare[1:])]
        self.averages = [copy.deepcopy(net).eval().requires_grad_(False) for net in bare]
        self._shown = copy.deepcopy(self.averages)
        self.anchor = self._anchor(start)
        parameters = [p for net in bare for p in net.parameters()]
        optimizer: Any = torch.optim.AdamW(parameters, lr=settings.top_rate, weight_decay=settings.weight_decay)
        self.state, self.best = TrainState(), list[list[dict[str, Tensor]]]()
        self.identity = {
            "settings": {**settings.as_dict(), "precision": ""},
            "scans or labels": samples.digest(),
            "start": start.sha256 if start is not None else "",
            "targets": classes,
        }
        kept: dict[str, Any] = {}
        if resume and checkpoint.exists():
            self.state, kept = load_checkpoint(checkpoint, TrainState, self.identity)
            for net, average, one, other in zip(bare, self.averages, kept["networks"], kept["averages"], strict=True):
                net.load_state_dict(one)
                average.load_state_dict(other)
            optimizer.load_state_dict(kept["optimizer"])
            self.best, self.labels = kept["best"], kept["labels"]
            logger.info("resumed at step %d", self.state.step)
        self.networks: list[Any] = [fabric.setup_module(net) for net in bare]
        self.bare = bare
        self.optimizer: Any = fabric.setup_optimizers(optimizer)
        restore_scaler(fabric, kept.get("scaler"))
        self._loss = scan_losses()

    def run(self) -> Trained:
        """Train to the end, or until patience ends it.

        Raises:
            TrainingDiverged: the loss is not finite.
            UnwritableResult: the file system refused.
        """
        settings, state = self.settings, self.state
        every = -(-settings.count // settings.checks)
        losses: list[float] = []
        began = time.monotonic()
        while state.step < settings.count and not state.ended:
            loss = self._step(state.step)
            losses.append(loss)
            state.step += 1
            cycle_ends = self._ends_cycle(state.step)
            if state.step % every == 0 or cycle_ends:
                self._check(float(np.mean(losses)), time.monotonic() - began)
                losses, began = [], time.monotonic()
                if cycle_ends and "refresh" in settings.options and state.step < settings.count:
                    self._refresh()
                self._save()
            self._tell("training", state.step, settings.count, loss, self._score)
        return Trained(self._members(), self._score, tuple(state.history), state.ended)

    def _anchor(self, start: Start | None) -> float:
        """The share of the start, from the labels that there are before any is corrected."""
        if start is None:
            return 0.0
        if self.settings.anchor is not None:
            return self.settings.anchor
        places = np.flatnonzero(self.samples.train)
        some = places[:: -(-len(places) // _ASKED)]
        overlap = float(np.mean(overlaps(self.averages[:1], self.samples, some, self.settings, self.fabric.device)))
        share = share_of_start(overlap, len(places))
        logger.info("the start overlaps the labels by %.2f and keeps a share of %.2f", overlap, share)
        return share

    def _ends_cycle(self, step: int) -> bool:
        steps, cycles = self.settings.count, self.cycles
        return step == steps or cycle_of(step, steps, cycles) != cycle_of(step - 1, steps, cycles)

    def _step(self, step: int) -> float:
        settings = self.settings
        rate = settings.top_rate * cycle_rate(step, settings.count, self.cycles)
        set_rate(self.optimizer, rate)
        batch = self.batches.at(step, self.labels)
        device = self.fabric.device
        images, labels, weights = (t.to(device) for t in (batch.images, batch.labels, batch.weights))
        for net in self.networks:
            net.train()
        losses = [self._loss(net(images), labels) for net in self.networks]
        total = self._total(losses, weights, step)
        advice = f"try a smaller --rate than {settings.top_rate:g}, or --precision float32"
        refuse_infinite("loss", total.item(), step=step, advice=advice)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        for net in self.networks:
            self.fabric.clip_gradients(net, self.optimizer, max_norm=_CLIP, error_if_nonfinite=False)
        self.optimizer.step()
        for average, net in zip(self.averages, self.bare, strict=True):
            follow(average, net, ramped(settings.average, step, lag=_LAG))
        return total.item() / len(self.networks)

    def _total(self, losses: list[Tensor], weights: Tensor, step: int) -> Tensor:
        """The sum over networks of the mean loss of the scans that are trained on."""
        settings = self.settings
        share = kept_share(step, settings.count, forget=settings.forget)
        kept: tuple[Tensor, ...] = tuple(torch.ones_like(each, dtype=torch.bool) for each in losses)
        if "co-teaching" in settings.options:
            kept = exchange(losses[0], losses[1], share)
        elif "small-loss" in settings.options:
            kept = (smallest(losses[0], share),)
        means = [(each * weights)[chosen].mean() for each, chosen in zip(losses, kept, strict=True)]
        return torch.stack(means).sum()

    def _check(self, loss: float, seconds: float) -> None:
        """Score the averages, drawn back to their start, and keep them if they are their cycle's best."""
        state, settings = self.state, self.settings
        kept = [
            drawn_back(average, begun, self.anchor) for average, begun in zip(self.averages, self._begun, strict=True)
        ]
        for shown, weights in zip(self._shown, kept, strict=True):
            shown.load_state_dict(weights)
        score = validation_dice(self._shown, self.samples, settings, self.fabric.device)
        before = self._score
        cycle = cycle_of(state.step - 1, settings.count, self.cycles)
        if cycle == len(state.cycles):
            state.cycles.append({"score": -1.0, "step": 0})
            self.best.append([])
        if math.isnan(score) or score > state.cycles[cycle]["score"]:
            state.cycles[cycle] = {"score": score, "step": state.step}
            self.best[cycle] = kept
        better = math.isnan(score) or math.isnan(before) or score > before
        state.stale = 0 if better else state.stale + 1
        state.ended = 0 < settings.patience <= state.stale
        state.history.append({
            "step": state.step, "epoch": state.step / self.batches.per_epoch, "cycle": cycle + 1,
            "rate": self.optimizer.param_groups[0]["lr"], "loss": loss, "validation_dice": score,
            "seconds": seconds,
        })  # fmt: skip
        self._log(state.history)

    @property
    def _score(self) -> float:
        """The best of all checks; NaN before the first, and where nothing is held out."""
        return max((cycle["score"] for cycle in self.state.cycles), default=math.nan)

    def _refresh(self) -> None:
        """The averages correct the training labels; held-out ones stay, or scores would chase themselves."""
        places = np.flatnonzero(self.samples.train)
        for start in range(0, len(places), self.settings.batch):
            some = torch.from_numpy(places[start : start + self.settings.batch])
            found = mean_probabilities(self.averages, self.samples.images[some], self.settings, self.fabric.device)
            self.labels[some] = corrected(self.labels[some], found, trust=self.settings.trust)
            self._tell("refreshing", start, len(places), math.nan, self._score)

    def _members(self) -> tuple[Weights, ...]:
        scores = [cycle["score"] for cycle in self.state.cycles]
        if "snapshots" in self.settings.options:
            chosen = choose_members(scores)
        else:
            chosen = [len(scores) - 1 if math.isnan(scores[-1]) else int(np.argmax(scores))]
        return tuple(weights for k in chosen for weights in self.best[k])

    def _save(self) -> None:
        tensors = {
            "networks": [net.state_dict() for net in self.bare],
            "averages": [net.state_dict() for net in self.averages],
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "labels": self.labels,
            "scaler": scaler_state(self.fabric),
        }
        save_checkpoint(self.checkpoint, self.state, tensors, self.identity)

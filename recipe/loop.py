"""One training loop for all bundled models: a task's batches and loss, and what every training shares."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lexiseg.training.average import follow, put_mean, ramped
from lexiseg.training.checkpoint import load_checkpoint, save_checkpoint, save_tensors
from lexiseg.training.fabric import make_fabric
from lexiseg.training.logs import StepTable
from lexiseg.training.optimizing import parameter_groups, refuse_infinite, set_rate
from recipe.depthwise import differentiate_in_float

logger = logging.getLogger(__name__)

_LAG = 20
"""Of the running average: see `ramped`."""


class Batches(Protocol):
    """The part of a task that makes its batches."""

    @property
    def steps(self) -> int:
        """How many optimiser steps the run has."""

    def batch(self, step: int) -> Any:
        """What a step learns from, on the CPU; made without the model, in another process perhaps."""


class Task(Batches, Protocol):
    """A model with its batches, each a pure function of the step, and their loss."""

    model: nn.Module

    def begin(self) -> None:
        """What is done to the model before the first step; a run that is resumed skips it."""

    def rate(self, step: int) -> float:
        """The learning rate at a step."""

    def decay(self, step: int) -> float:
        """Decay of the running average at a step, 0 (follows at once) to 1 (stays)."""

    def loss(self, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """The terms of the loss of what `batch` gave, already weighted."""


@dataclass
class LoopState:
    """How far a run has come: steps that are finished."""

    step: int = 0


class _BySteps(Dataset[Any]):
    """Batches by step."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Any:
        return self.batches.batch(step)


def batches_of(batches: Batches, start: int, *, workers: int) -> Iterator[Any]:
    """Those of every step from `start` on, in order, made ahead by `workers` processes (0: none)."""
    loader = DataLoader(
        _BySteps(batches),
        batch_size=None,
        sampler=range(start, batches.steps),
        num_workers=workers,
        generator=torch.Generator(),  # its own: it would draw from the training's
    )
    return iter(loader)


class Loop:
    """Runs a task to its end; killed and started again it goes on from its last checkpoint.

    Batches depend on (seed, step) alone, so that a resumed run sees what an unbroken one would have seen.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        *,
        weight_decay: float,
        clip: float,
        mix: Mapping[int, float] | None = None,
        slow: Mapping[str, float] | None = None,
        precision: str = "float32",
        device: str = "auto",
        workers: int = 0,
        source: Callable[[int], Iterator[Any]] | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            task: what to train.
            folder: for checkpoints and the log.
            weight_decay: of AdamW, on weights of two dimensions or more.
            clip: largest norm of the gradient.
            mix: step -> weight: the model that `run` returns is this mean of the running averages as they
                were after those steps (a mean over a run's course generalises better than its end: Izmailov
                et al., UAI 2018); None is the last one alone.
            slow: beginning of a weight's name -> factor of the learning rate, for weights that know something
                already; the first that fits counts.  At 0 they stay as they are, and no gradient is computed.
            precision: of the forward pass, "float32" or "bfloat16"; weights and optimiser are float32 always.
            device: as for `lexiseg.models.loading.resolve_device`.
            workers: processes that make batches ahead, of which the result does not depend; 0: none, the
                run makes each when it is needed.  A GPU waits for its batches without.
            source: gives the batches of every step from one on; None: the task's own.
            identity: what a continuation must share, plain values.

        Raises:
            UsageError: lightning is not installed, or there is no such device.
        """
        self.task, self.folder, self.clip = task, folder, clip
        self.mix, self.source = dict(mix or {}), source or partial(batches_of, task, workers=workers)
        folder.mkdir(parents=True, exist_ok=True)
        self.identity = identity or {}
        self.fabric = make_fabric(device, precision)
        task.model.to(self.fabric.device)
        if not self.checkpoint.exists():
            task.begin()

        def factor(name: str) -> float:
            return next((each for start, each in (slow or {}).items() if name.startswith(start)), 1.0)

        for name, parameter in task.model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and factor(name) > 0)
        groups = parameter_groups(task.model, weight_decay=weight_decay, factor=factor)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98))
        task.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(task.model).eval().requires_grad_(False)
        self._table: StepTable | None = None
        if precision == "bfloat16" and self.fabric.device.type == "cpu":
            differentiate_in_float(task.model)

    @property
    def checkpoint(self) -> Path:
        """Model, average, optimiser and step, replaced in one go."""
        return self.folder / "last.pt"

    def run(
        self, *, every: int = 200, log: int = 20, after: Callable[[nn.Module, int], None] | None = None
    ) -> nn.Module:
        """Train to the end; returns the averaged model.

        Args:
            every: steps from one checkpoint to the next.
            log: steps from one line of the log to the next.
            after: is called with the averaged model and the step after each checkpoint, and at the end.

        Raises:
            TrainingDiverged: the loss is not finite.
            UsageError: the checkpoint is of a run with another identity.
            UnwritableResult: the file system refused.
        """
        task, start = self.task, self._start()
        running: Tensor | None = None
        began = time.monotonic()
        logger.info("from step %d of %d", start, task.steps)
        task.model.train()
        for step, batch in enumerate(self.source(start), start):
            set_rate(self.optimizer, task.rate(step))
            with self.fabric.autocast():
                terms = task.loss(batch, self.fabric.device)
            total = torch.stack(list(terms.values())).sum()
            refuse_infinite("loss", total.item(), step=step, advice=f"the last checkpoint is {self.checkpoint}")
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(total)
            norm = nn.utils.clip_grad_norm_(task.model.parameters(), self.clip)
            self.optimizer.step()
            scale = getattr(task.model, "logit_scale", None)
            if scale is not None:
                scale.data.clamp_(0, 3.4)
            follow(self.average, task.model, ramped(task.decay(step), step, lag=_LAG))
            # Summed up where they were computed: a GPU would wait at each number that is fetched.
            found = torch.stack([*terms.values(), total, norm]).detach()
            running = found if running is None else 0.95 * running + 0.05 * found
            if (step + 1) % log == 0:
                values = dict(zip([*terms, "total", "norm"], running.tolist(), strict=True))
                self._log(step + 1, values, (time.monotonic() - began) / (step + 1 - start), start)
            if step + 1 in self.mix:
                # Before the checkpoint: a run that is killed between the two makes it again.
                save_tensors(self._kept(step + 1), self.average.state_dict())
            if (step + 1) % every == 0 or step + 1 == task.steps:
                self._save(step + 1)
                if after is not None:
                    after(self.average, step + 1)
        if self._table is not None:
            self._table.close()
        if self.mix:
            kept = [
                torch.load(self._kept(step), weights_only=True, map_location=self.fabric.device) for step in self.mix
            ]
            put_mean(self.average, kept, list(self.mix.values()))
            if after is not None:
                after(self.average, task.steps)
        return self.average

    def _start(self) -> int:
        """The step to go on from, and its state put back; what was done before the first is kept at once."""
        if not self.checkpoint.exists():
            self._save(0)
            return 0
        state, kept = load_checkpoint(self.checkpoint, LoopState, self.identity)
        self.task.model.load_state_dict(kept["model"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        return state.step

    def _kept(self, step: int) -> Path:
        return self.folder / f"average-{step}.pt"

    def _log(self, step: int, values: dict[str, float], seconds: float, start: int) -> None:
        logger.info(
            "step %d/%d  %.2f s/step  %.0f min left  %s",
            step,
            self.task.steps,
            seconds,
            (self.task.steps - step) * seconds / 60,
            "  ".join(f"{name} {value:.4f}" for name, value in values.items()),
        )
        if self._table is None:
            columns = ("step", "seconds_per_step", *values)
            self._table = StepTable(self.folder / "log.csv", columns, below=start + 1, digits=6)
        self._table.add({"step": step, "seconds_per_step": seconds, **values})

    def _save(self, step: int) -> None:
        tensors = {
            "model": self.task.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint, LoopState(step), tensors, self.identity)

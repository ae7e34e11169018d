"""One training loop for both models: Fabric for device and precision, EMA weights, checkpoints, resume."""

from __future__ import annotations

import copy
import csv
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from lexiseg.files import atomic_write
from recipe.depthwise import differentiate_in_float


def warm_cosine(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """A factor that rises to 1 over `warmup` steps and falls on a half cosine to `floor` at the last."""
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


class Phases:
    """Consecutive phases of a training, each a mapping with `steps`, `lr` and what else its task reads."""

    def __init__(self, phases: Sequence[Mapping[str, Any]], warmup: int) -> None:
        self.phases, self.warmup = phases, warmup

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(p["steps"] for p in self.phases)

    def at(self, step: int) -> Mapping[str, Any]:
        """The phase that a step belongs to."""
        for phase in self.phases:
            if step < phase["steps"]:
                return phase
            step -= phase["steps"]
        return self.phases[-1]

    def rate(self, step: int) -> float:
        """Warm-up, then a cosine to the end or to a phase with `restart: true`; times the phase's `lr`."""
        begin = end = 0
        for phase in self.phases:
            if phase.get("restart") and end <= step:
                begin = end
            elif phase.get("restart"):
                break
            end += phase["steps"]
        return float(self.at(step)["lr"]) * warm_cosine(step - begin, end - begin, self.warmup)


def shortened(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    """A model's section of the recipe with every phase `share` times as long, and the same mean of weights.

    Raises:
        ValueError: a step of `mix` is not the end of a phase.
    """
    phases = [{**phase, "steps": max(1, round(phase["steps"] * share))} for phase in settings["phases"]]
    ends = [list(accumulate(phase["steps"] for phase in some)) for some in (settings["phases"], phases)]
    mix = settings.get("mix") or {}
    if strange := set(mix) - set(ends[0]):
        raise ValueError(f"mix: steps {sorted(strange)} are not the ends of phases, {ends[0]}")
    return {
        **settings,
        "phases": phases,
        "mix": {new: mix[old] for old, new in zip(*ends, strict=True) if old in mix},
    }


class Scheduled:
    """A task's part of `Loop` that its phases decide."""

    c: Mapping[str, Any]
    phases: Phases

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return self.phases.steps

    def begin(self) -> None:
        """Nothing comes before the first step."""

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.phases.rate(step)

    def decay(self, step: int) -> float:
        """Decay of the running average at a step: the phase's own `ema`, else the model's."""
        return float(self.phases.at(step).get("ema", self.c["ema"]))


Precision = Literal["32-true", "bf16-mixed"]
logger = logging.getLogger(__name__)


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
        precision: Precision = "32-true",
        device: str = "auto",
        workers: int = 0,
        source: Callable[[int], Iterator[Any]] | None = None,
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
            precision: of the forward pass, as Lightning names it; weights and optimiser are float32 always.
            device: of Lightning's accelerators, or "auto".
            workers: processes that make batches ahead, of which the result does not depend; 0: none, the
                run makes each when it is needed.  A GPU waits for its batches without.
            source: gives the batches of every step from one on; None: the task's own.
        """
        self.task, self.folder, self.clip = task, folder, clip
        self.mix, self.source = dict(mix or {}), source or partial(batches_of, task, workers=workers)
        folder.mkdir(parents=True, exist_ok=True)
        self.fabric = Fabric(accelerator="auto" if device == "auto" else device, devices=1, precision=precision)
        task.model.to(self.fabric.device)
        if not self.checkpoint.exists():
            task.begin()
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, p in task.model.named_parameters():
            bare = p.ndim < 2 or any(part in name for part in ("logit", "positional", "pos_embed"))
            factor = next((f for start, f in (slow or {}).items() if name.startswith(start)), 1.0)
            p.requires_grad_(p.requires_grad and factor > 0)
            if p.requires_grad:
                groups.setdefault((0.0 if bare else weight_decay, factor), []).append(p)
        optimizer = torch.optim.AdamW(
            [{"params": ps, "weight_decay": d, "factor": f} for (d, f), ps in groups.items()],
            lr=1e-3,
            betas=(0.9, 0.98),
        )
        task.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(task.model).eval().requires_grad_(False)
        self.optimizer = optimizer
        if precision == "bf16-mixed" and self.fabric.device.type == "cpu":
            differentiate_in_float(task.model)

    @property
    def checkpoint(self) -> Path:
        """Model, average, optimiser and step, replaced in one go."""
        return self.folder / "last.pt"

    def run(
        self, *, every: int = 200, log: int = 20, after: Callable[[nn.Module, int], None] | None = None
    ) -> nn.Module:
        """Train to the end; returns the averaged model."""
        task, start = self.task, self._start()
        running: Tensor | None = None
        began = time.monotonic()
        task.model.train()
        for step, batch in enumerate(self.source(start), start):
            for group in self.optimizer.param_groups:
                group["lr"] = task.rate(step) * group["factor"]
            with self.fabric.autocast():
                terms = task.loss(batch, self.fabric.device)
            total = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(total):
                raise RuntimeError(f"loss is {total.item()} at step {step}: the last checkpoint is {self.checkpoint}")
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(total)
            norm = nn.utils.clip_grad_norm_(task.model.parameters(), self.clip)
            self.optimizer.step()
            scale = getattr(task.model, "logit_scale", None)
            if scale is not None:
                scale.data.clamp_(0, 3.4)
            self._follow(min(task.decay(step), (step + 1) / (step + 20)))
            # Summed up where they were computed: a GPU would wait at each number that is fetched.
            found = torch.stack([*terms.values(), total, norm]).detach()
            running = found if running is None else 0.95 * running + 0.05 * found
            if (step + 1) % log == 0:
                values = dict(zip([*terms, "total", "norm"], running.tolist(), strict=True))
                self._log(step + 1, values, (time.monotonic() - began) / (step + 1 - start))
            if step + 1 in self.mix:
                # Before the checkpoint: a run that is killed between the two makes it again.
                self._write(self.average.state_dict(), self._kept(step + 1))
            if (step + 1) % every == 0 or step + 1 == task.steps:
                self._save(step + 1)
                if after is not None:
                    after(self.average, step + 1)
        if self.mix:
            self._mix()
            if after is not None:
                after(self.average, task.steps)
        return self.average

    def _start(self) -> int:
        """The step to go on from, and its state put back; what was done before the first is kept at once."""
        if not self.checkpoint.exists():
            self._save(0)
            return 0
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.fabric.device)
        self.task.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("resumed at step %d", state["step"])
        return int(state["step"])

    def _kept(self, step: int) -> Path:
        return self.folder / f"average-{step}.pt"

    @torch.no_grad()
    def _mix(self) -> None:
        """Put the weighted mean of the kept averages in place of the last one."""
        total = sum(self.mix.values())
        states = [
            (torch.load(self._kept(step), weights_only=True, map_location=self.fabric.device), weight / total)
            for step, weight in self.mix.items()
        ]
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.copy_(sum(state[name] * weight for state, weight in states))

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        ours, theirs = self.average.state_dict(), self.task.model.state_dict()
        numbers = [name for name, value in ours.items() if value.is_floating_point()]
        # All of them at once: a GPU is called a few times, not a thousand.
        follow = cast(Any, get_ema_multi_avg_fn)(decay)
        follow([ours[name] for name in numbers], [theirs[name] for name in numbers], 0)
        for name in ours.keys() - set(numbers):
            ours[name].copy_(theirs[name])

    def _log(self, step: int, values: dict[str, float], seconds: float) -> None:
        left = (self.task.steps - step) * seconds
        logger.info(
            "step %d/%d  %.2f s/step  %.0f min left  %s",
            step,
            self.task.steps,
            seconds,
            left / 60,
            "  ".join(f"{k} {v:.4f}" for k, v in values.items()),
        )
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["step", "seconds_per_step", *values])
            writer.writerow([step, f"{seconds:.3f}", *(f"{v:.5f}" for v in values.values())])

    def _save(self, step: int) -> None:
        state: dict[str, Any] = {
            "model": self.task.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
        }
        self._write(state, self.checkpoint)

    @staticmethod
    def _write(state: Mapping[str, Any], path: Path) -> None:
        atomic_write(path, lambda stream: torch.save(state, stream))

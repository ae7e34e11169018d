"""The course of a training: consecutive phases, their learning rate and running average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from lexiseg.training.schedule import warm_cosine


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

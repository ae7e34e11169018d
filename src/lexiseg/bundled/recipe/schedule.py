"""Learning rates, and which phase of a training a step belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


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


class Scheduled:
    """A task's part of `Loop` that its phases decide."""

    phases: Phases

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return self.phases.steps

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.phases.rate(step)

"""The learning rate's course."""

from __future__ import annotations

import math


def warm_cosine(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """A factor that rises to 1 over `warmup` steps and falls on a half cosine to `floor` at the last."""
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)

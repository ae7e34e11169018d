"""The learning rate's course, a pure function of the step."""

from __future__ import annotations

import math

from lexiseg.learning.settings import FinetuneSettings


def rate_factor(step: int, *, settings: FinetuneSettings, per_epoch: int) -> float:
    """The factor of the learning rate at a step.

    Args:
        step: counted from 0 over all epochs.
        settings: `schedule`, `warmup`, `halve_every` and `epochs` count.
        per_epoch: steps in an epoch.

    Returns:
        0 to 1.  After a linear warm-up: half a cosine to 0 at the end; or one half to the power of the times
        that `halve_every` epochs have passed; or 1.
    """
    steps = settings.epochs * per_epoch
    warm = round(settings.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if settings.schedule == "halving":
        return float(0.5 ** (step // per_epoch // settings.halve_every))
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
    return 1.0

"""Courses of a learning rate: factors from 0 to 1, pure functions of the step."""

from __future__ import annotations

import math


def warm_up(step: int, warmup: int) -> float:
    """A linear rise over the first `warmup` steps: 1 / warmup at step 0, 1 from step warmup - 1 on."""
    return min(1.0, (step + 1) / max(1, warmup))


def cosine(step: int, steps: int, *, floor: float = 0.0) -> float:
    """Half a cosine from 1 at step 0 to `floor` at `steps`: f + (1 - f) (1 + cos(pi t / T)) / 2.

    Source: I. Loshchilov, F. Hutter, SGDR, ICLR 2017, equation 5.
    """
    return floor + (1 - floor) * ((1 + math.cos(math.pi * step / max(1, steps))) / 2)


def halving(epoch: int, *, every: int) -> float:
    """One half to the power of the times that `every` epochs have passed."""
    return float(0.5 ** (epoch // every))


def warm_cosine(step: int, steps: int, warmup: int, *, floor: float = 0.02) -> float:
    """`cosine`, times a `warm_up` that it does not wait for."""
    return warm_up(step, warmup) * cosine(step, steps, floor=floor)


def cycle_of(step: int, steps: int, cycles: int) -> int:
    """The cycle that a step belongs to, from 0; the last may be shorter than the others."""
    return step // -(-steps // cycles)


def cycle_rate(step: int, steps: int, cycles: int, *, warmup: int = 20, floor: float = 0.01) -> float:
    """Cosine cycles with warm restarts, after one short rise.

    Source: G. Huang et al., Snapshot ensembles: train 1, get M for free, ICLR 2017, equation 2 (there
    without a floor).

    Args:
        step: from 0.
        steps: of the run.
        cycles: of equal length; see `cycle_of`.
        warmup: steps of the rise.
        floor: what is left at the end of a cycle.
    """
    length = -(-steps // cycles)
    return warm_up(step, warmup) * cosine(step % length, length, floor=floor)

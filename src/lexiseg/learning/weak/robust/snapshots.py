"""Snapshot ensembles: one training, several networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

FLOOR = 0.01
"""What is left of the learning rate at the end of a cycle."""


def cycle_rate(step: int, steps: int, cycles: int, *, warmup: int = 20) -> float:
    """The learning rate's factor: cosine cycles with warm restarts, after a short linear rise.

    floor + (1 - floor) (1 + cos(pi t / T)) / 2 at step t of a cycle of T. Source: G. Huang et al., Snapshot
    ensembles: train 1, get M for free, ICLR 2017, equation 2 (there without a floor).

    Args:
        step: from 0.
        steps: of the run.
        cycles: of equal length; see `cycle_of`.
        warmup: steps of the rise.
    """
    length = -(-steps // cycles)
    cosine = (1 + math.cos(math.pi * (step % length) / length)) / 2
    return min(1.0, (step + 1) / warmup) * (FLOOR + (1 - FLOOR) * cosine)


def cycle_of(step: int, steps: int, cycles: int) -> int:
    """The cycle that a step belongs to, from 0."""
    return step // -(-steps // cycles)


def choose_members(scores: Sequence[float], *, margin: float = 0.02, most: int = 3) -> list[int]:
    """Which cycles' networks join the ensemble: the best ones within `margin` of the best score.

    A network from before the training had settled would only drag the mean down, and each member costs its
    time in every prediction. Where no score is known (NaN), the last ones join.
    """
    places = list(range(len(scores)))
    known = [score for score in scores if not math.isnan(score)]
    if not known:
        return places[-most:]
    ranked = sorted(places, key=lambda k: (-scores[k], k))
    return sorted(k for k in ranked[:most] if scores[k] >= max(known) - margin)


def entropy(probabilities: Tensor) -> Tensor:
    """How undecided an ensemble's mean is: -sum_k p_k log p_k / log K, 0 to 1.

    Source: Y. Zhao et al., Efficient Bayesian uncertainty estimation for nnU-Net, MICCAI 2022, as in
    MedCLIP-SAMv2; here divided by its largest value.

    Args:
        probabilities: float (K, H, W), K classes that add up to 1.

    Returns:
        float (H, W).
    """
    sure = probabilities.clamp_min(1e-12)
    return -(probabilities * sure.log()).sum(0) / math.log(len(probabilities))

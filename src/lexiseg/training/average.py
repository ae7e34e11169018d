"""Means of a network's weights over its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def ramped(decay: float, step: int, *, lag: int) -> float:
    """A decay that begins small, so that the mean soon forgets random weights: min(d, (t + 1) / (t + lag))."""
    return min(decay, (step + 1) / (step + lag))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """One step of the moving average: theta' = decay theta' + (1 - decay) theta; counters are copied.

    Source: A. Tarvainen, H. Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1.
    """
    ours, theirs = average.state_dict(), network.state_dict()
    numbers = [name for name, value in ours.items() if value.is_floating_point()]
    # All of them at once: a GPU is called a few times, not a thousand.
    towards = cast(Any, get_ema_multi_avg_fn)(decay)
    towards([ours[name] for name in numbers], [theirs[name] for name in numbers], 0)
    for name in ours.keys() - set(numbers):
        ours[name].copy_(theirs[name])


@torch.no_grad()
def put_mean(network: nn.Module, states: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> None:
    """Put the weighted mean of several states into a network; counters stay as they are.

    Source: P. Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018.

    Args:
        network: whose state they are of.
        states: N of them, on its device.
        weights: (N,), in proportion.
    """
    total = sum(weights)
    shares = [weight / total for weight in weights]
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(sum(state[name] * share for state, share in zip(states, shares, strict=True)))

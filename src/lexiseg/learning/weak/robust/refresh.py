"""An averaged student as the next teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """One step of the moving average: theta' = decay theta' + (1 - decay) theta; counters are copied.

    Source: A. Tarvainen, H. Valpola, Mean teachers are better role models, NeurIPS 2017, equation 1.
    """
    theirs = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], 1 - decay)
        else:
            value.copy_(theirs[name])


def corrected(labels: Tensor, probabilities: Tensor, *, trust: float) -> Tensor:
    """Labels with those pixels put right of which the averaged student is sure.

    A pixel becomes the likeliest class where its probability is at least `trust`, else it stays. Networks fit
    what most labels agree on before they fit mistakes, so a student that is sure against a label is more
    often right than wrong. Source: S. Liu et al., Adaptive early-learning correction for segmentation from
    noisy annotations (ADELE), CVPR 2022.

    Args:
        labels: uint8 (B, S, S).
        probabilities: float (B, K + 1, S, S).
        trust: 0.5 to 1.

    Returns:
        uint8 (B, S, S).
    """
    likeliest, classes = probabilities.max(1)
    return torch.where(likeliest >= trust, classes.to(torch.uint8), labels)

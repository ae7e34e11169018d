"""Dice and cross-entropy, scan by scan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def scan_losses() -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of each scan of a batch by itself, so that scans can be weighted or left out.

    L = (1 - Dice) + CE of MONAI's DiceCELoss, Dice of the foreground classes on softmax probabilities. Its
    smoothing is one pixel: with less, the Dice of a scan without target is 0 or 1 by the last grain of
    probability, and its gradient noise.

    Returns:
        A function of logits (B, K + 1, S, S) and labels int (B, S, S) that returns float32 (B,).
    """
    from monai.losses import DiceCELoss

    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)

    def each(logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels[:, None].long()
        return torch.stack([loss(logits[k : k + 1].float(), targets[k : k + 1]) for k in range(len(logits))])

    return each

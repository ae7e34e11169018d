"""Small-loss selection: scans with right labels are learnt first, so those that fit badly are left out."""

from __future__ import annotations

import torch
from torch import Tensor


def kept_share(step: int, steps: int, *, forget: float, ramp: float = 0.2) -> float:
    """The share of a batch that is trained on: 1 - forget min(step / (ramp steps), 1).

    All of it at first, while the network knows nothing that could tell right labels from wrong ones.

    Args:
        step: from 0.
        steps: of the run.
        forget: the share that is left out in the end.
        ramp: share of the run until then.
    """
    return 1 - forget * min(step / max(1.0, ramp * steps), 1.0)


def smallest(losses: Tensor, share: float) -> Tensor:
    """The scans with the smallest losses.

    Source: L. Jiang et al., MentorNet, ICML 2018; B. Han et al., Co-teaching, NeurIPS 2018, equation of R(T).

    Args:
        losses: float (B,).
        share: of the scans that are kept; at least one is.

    Returns:
        bool (B,).
    """
    count = max(1, round(share * len(losses)))
    kept = torch.zeros(len(losses), dtype=torch.bool, device=losses.device)
    kept[losses.detach().argsort(stable=True)[:count]] = True
    return kept

"""What helps a student against wrong labels: weights, small losses, co-teaching, refresh, snapshots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lexiseg.values.arrays import FloatArray


def balanced(weights: FloatArray) -> FloatArray:
    """Weights with mean 1, so that weighting does not change the learning rate.

    The loss is sum_i w_i L_i / B, an importance reweighting in which w stands for how likely a label is
    right. Source: T. Liu, D. Tao, Classification with noisy labels by importance reweighting, IEEE TPAMI 38
    (2016) 447-461.

    Args:
        weights: float32 (N,), at least 0, not all 0.

    Returns:
        float32 (N,).
    """
    return np.asarray(weights / weights.mean(), np.float32)


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


def exchange(first: Tensor, second: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """What each of two networks is trained on: the small-loss scans of the other.

    Networks that began differently do not make the same mistakes, so neither confirms its own. Source: B. Han
    et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018,
    algorithm 1.

    Args:
        first: losses of the first network, float (B,).
        second: losses of the second on the same scans.
        share: of the scans that are kept.

    Returns:
        Which scans the first and the second network are trained on, bool (B,) each.
    """
    return smallest(second, share), smallest(first, share)


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

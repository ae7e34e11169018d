"""What the released MedCLIP-SAM code computes under the name DHN-NCE."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lexiseg.learning.losses.logspace import similarities


def as_released(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float = 0.6,
    beta1: float = 0.15,
    beta2: float = 0.15,
    *,
    negatives: Tensor | None = None,
) -> Tensor:
    """The released loss, for reproduction only; `dhn_nce` is the paper's.

    ``L = 1/B^2 sum_ij (-d_ij + log(B - 1) + (1 + beta) n_ij - log sum_k exp(n_ik))``, where d is s on the
    diagonal and 0 elsewhere and n is s off the diagonal and 0 on it; the sum of both directions.

    It differs from the equation of the paper: similarities are multiplied by a mask before exp, so that what
    is masked counts as exp(0) = 1; the negatives are never summed inside a logarithm, which leaves a term
    that is linear in their similarities; the weights' normaliser has no beta and includes the diagonal; and
    the mean is over B x B entries, so that the positive pairs weigh 1 / B.

    The released code exponentiates and is not finite at tau = 0.01; this is the same function in log space.

    Source: github.com/HealthX-Lab/MedCLIP-SAM (v1 and v2), measured.

    Args:
        image: (B, E) floating point.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau.
        beta1: hardness from images to texts.
        beta2: hardness from texts to images.
        negatives: not used: the released code knows no false negatives.

    Returns:
        A scalar, float32 or better.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    del negatives
    similarity = similarities(image, text, temperature)
    return _direction(similarity, beta1) + _direction(similarity.T, beta2)


def _direction(similarity: Tensor, beta: float) -> Tensor:
    size = len(similarity)
    diagonal = torch.eye(size, dtype=torch.bool, device=similarity.device)
    off = similarity.masked_fill(diagonal, 0.0)
    linear = (1 + beta) * off.mean() - similarity.diagonal().sum() / size**2
    return linear + math.log(size - 1) - off.logsumexp(dim=1).mean()

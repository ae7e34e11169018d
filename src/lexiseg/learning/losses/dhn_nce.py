"""Decoupled hard-negative noise contrastive estimation, the loss of MedCLIP-SAM."""

from __future__ import annotations

from torch import Tensor

from lexiseg.learning.losses.logspace import both_directions


def dhn_nce(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float = 0.6,
    beta1: float = 0.15,
    beta2: float = 0.15,
    *,
    negatives: Tensor | None = None,
) -> Tensor:
    """Decoupled, and with harder negatives weighing more; images to texts plus texts to images.

    ``L = 1/B sum_i (-s_ii + log sum_{j != i} W_ij exp(s_ij))`` with ``W_ij = (B - 1) exp(beta s_ij) /
    sum_{k != i} exp(beta s_ik)`` and ``s_ij = cos(I_i, T_j) / tau``; beta is beta1 for images to texts and
    beta2 for texts to images.  The paper writes sums over i, here they are means, so that a learning rate
    does not depend on the batch.  Gradients flow through the weights.  beta = 0 gives `dcl`.

    Source: Koleilat et al., "MedCLIP-SAM", MICCAI 2024, arXiv 2403.20253.  The released code computes
    something else: `as_released`.

    Args:
        image: (B, E) floating point.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau.
        beta1: hardness from images to texts.
        beta2: hardness from texts to images.
        negatives: bool (B, B), see `infonce`; B - 1 is then the number of a row's negatives.

    Returns:
        A scalar, float32 or better; may be negative.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    return both_directions(image, text, temperature, beta1=beta1, beta2=beta2, alpha=0.0, negatives=negatives)

"""Decoupled contrastive learning."""

from __future__ import annotations

from torch import Tensor

from lexiseg.learning.losses.logspace import both_directions


def dcl(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float = 0.07,
    beta1: float = 0.0,
    beta2: float = 0.0,
    *,
    negatives: Tensor | None = None,
) -> Tensor:
    """InfoNCE without the positive pair in the denominator, images to texts plus texts to images.

    ``L = 1/B sum_i (-s_ii + log sum_{j != i} exp(s_ij))``, ``s_ij = cos(I_i, T_j) / tau``.  The positive pair
    no longer damps the gradient of its own negatives, which is what makes InfoNCE need large batches.

    Source: Yeh et al., "Decoupled contrastive learning", arXiv 2110.06848.

    Args:
        image: (B, E) floating point.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau.
        beta1: not used; every loss takes the same arguments.
        beta2: not used.
        negatives: bool (B, B), see `infonce`.

    Returns:
        A scalar, float32 or better; may be negative.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    del beta1, beta2
    return both_directions(image, text, temperature, beta1=0.0, beta2=0.0, alpha=0.0, negatives=negatives)

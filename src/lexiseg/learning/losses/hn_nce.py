"""Hard-negative noise contrastive estimation."""

from __future__ import annotations

from torch import Tensor

from lexiseg.learning.losses.logspace import both_directions


def hn_nce(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float = 0.07,
    beta1: float = 0.15,
    beta2: float = 0.15,
    *,
    negatives: Tensor | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """InfoNCE with harder negatives weighing more, images to texts plus texts to images.

    ``L = -1/B sum_i log(exp(s_ii) / (alpha exp(s_ii) + sum_{j != i} w_ij exp(s_ij)))`` with ``w_ij = (B - 1)
    exp(beta s_ij) / sum_{k != i} exp(beta s_ik)`` and ``s_ij = cos(I_i, T_j) / tau``; the weights of a row
    have the mean 1, and gradients flow through them.

    Source: Radenovic et al., "Filtering, distillation, and hard negatives for vision-language pre-training",
    arXiv 2301.02280.

    Args:
        image: (B, E) floating point.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau.
        beta1: hardness from images to texts; 0 gives InfoNCE.
        beta2: hardness from texts to images.
        negatives: bool (B, B), see `infonce`; B - 1 is then the number of a row's negatives.
        alpha: weight of the positive pair in the denominator; 0 gives DHN-NCE.

    Returns:
        A scalar, float32 or better.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    return both_directions(
        image, text, temperature, beta1=beta1, beta2=beta2, alpha=alpha, negatives=negatives
    )

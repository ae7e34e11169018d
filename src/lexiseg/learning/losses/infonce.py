"""InfoNCE, the loss of CLIP."""

from __future__ import annotations

from torch import Tensor

from lexiseg.learning.losses.logspace import both_directions


def infonce(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float = 0.07,
    beta1: float = 0.0,
    beta2: float = 0.0,
    *,
    negatives: Tensor | None = None,
) -> Tensor:
    """Noise-contrastive estimation of mutual information, images to texts plus texts to images.

    ``L = -1/B sum_i log(exp(s_ii) / (exp(s_ii) + sum_{j != i} exp(s_ij)))``, ``s_ij = cos(I_i, T_j) / tau``,
    and the same with rows and columns exchanged.  The two directions are added, as in DHN-NCE; CLIP takes
    their mean, so its value is half of this one.

    Source: van den Oord et al., arXiv 1807.03748; Radford et al., arXiv 2103.00020.

    Args:
        image: (B, E) floating point.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau.
        beta1: not used; every loss takes the same arguments.
        beta2: not used.
        negatives: bool (B, B), True where text j is truly no match of image i (`true_negatives`); None for
            all but the diagonal.

    Returns:
        A scalar, float32 or better.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    del beta1, beta2
    return both_directions(image, text, temperature, beta1=0.0, beta2=0.0, alpha=1.0, negatives=negatives)

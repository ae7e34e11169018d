"""What the losses share: similarities in full precision, and one direction's terms in log space."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def similarities(image: Tensor, text: Tensor, temperature: Tensor | float) -> Tensor:
    """Cosines over the temperature, ``s_ij = cos(I_i, T_j) / tau``.

    The product is taken in float32 whatever the embeddings' number format and whatever autocast says: at tau
    = 0.01 a cosine rounded to bfloat16 is wrong by 0.4 in s.

    Args:
        image: (B, E) floating point; need not be of unit length.
        text: (B, E), the i-th row belonging to the i-th image.
        temperature: tau, a positive number or a scalar tensor that may need a gradient.

    Returns:
        (B, B), float64 for float64 embeddings and float32 otherwise; images by rows.

    Raises:
        ValueError: shapes that do not fit, fewer than two pairs, or a temperature that is not positive.
    """
    if image.ndim != 2 or image.shape != text.shape or len(image) < 2:
        raise ValueError(
            f"got embeddings of shapes {tuple(image.shape)} and {tuple(text.shape)}, expected two of (B, E), "
            "B at least 2"
        )
    tau = temperature.item() if isinstance(temperature, Tensor) else temperature
    if not tau > 0:
        raise ValueError(f"got the temperature {tau}, expected a positive number")
    full = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
    with torch.autocast(image.device.type, enabled=False):
        first, second = (functional.normalize(each.to(full), dim=-1) for each in (image, text))
        return first @ second.T / temperature


def off_diagonal(similarity: Tensor, negatives: Tensor | None) -> Tensor:
    """Bool (B, B): which j count as negatives of i; the pair itself never does.

    Raises:
        ValueError: `negatives` has another shape than the similarities.
    """
    apart = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    if negatives is None:
        return apart
    if negatives.shape != similarity.shape:
        raise ValueError(
            f"got negatives of shape {tuple(negatives.shape)}, expected {tuple(similarity.shape)}"
        )
    return apart & negatives.to(device=similarity.device, dtype=torch.bool)


def direction(similarity: Tensor, negative: Tensor, *, beta: float, alpha: float) -> Tensor:
    """Mean over the rows i of ``-s_ii + log(alpha exp(s_ii) + sum_j w_ij exp(s_ij))``, j over i's negatives.

    With ``w_ij = n_i exp(beta s_ij) / sum_k exp(beta s_ik)`` over the n_i negatives of i, the inner sum is
    ``n_i exp(LSE((1 + beta) s_i) - LSE(beta s_i))``: two log-sum-exps, no weight is ever formed, and nothing
    overflows.  A row without a negative says nothing: it is left out of the mean.

    Args:
        similarity: (B, B), anchors by rows.
        negative: bool (B, B), False on the diagonal.
        beta: hardness; 0 weighs all negatives alike.
        alpha: weight of the positive pair in the denominator, 0 (decoupled) or more.

    Returns:
        A scalar.
    """
    alone = ~negative.any(dim=1)
    # Rows without a negative take part with harmless numbers: log-sum-exp of nothing has no gradient.
    kept = negative | alone[:, None]
    count = kept.sum(dim=1).to(similarity.dtype)

    def pooled(factor: float) -> Tensor:
        return (factor * similarity).masked_fill(~kept, -math.inf).logsumexp(dim=1)

    log_sum = pooled(1 + beta)
    if beta:
        log_sum = log_sum + count.log() - pooled(beta)
    positive = similarity.diagonal()
    if alpha:
        log_sum = torch.logaddexp(positive + math.log(alpha), log_sum)
    terms = torch.where(alone, torch.zeros_like(positive), log_sum - positive)
    return terms.sum() / (~alone).sum().clamp(min=1)


def both_directions(
    image: Tensor,
    text: Tensor,
    temperature: Tensor | float,
    *,
    beta1: float,
    beta2: float,
    alpha: float,
    negatives: Tensor | None,
) -> Tensor:
    """`direction` from images to texts, with beta1, plus that from texts to images, with beta2; a scalar."""
    similarity = similarities(image, text, temperature)
    negative = off_diagonal(similarity, negatives)
    return direction(similarity, negative, beta=beta1, alpha=alpha) + direction(
        similarity.T, negative.T, beta=beta2, alpha=alpha
    )

"""Losses by name."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import UsageError


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
        raise ValueError(f"got negatives of shape {tuple(negatives.shape)}, expected {tuple(similarity.shape)}")
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


_BLANKS = re.compile(r"\s+")


def identity(texts: Sequence[str]) -> Tensor:
    """A number for each text, equal for texts that say the same in the same words.

    Letter case, blanks and a final full stop do not count.  The numbers are those of a hash and not of a
    list, so that processes that never met agree on them.

    Args:
        texts: captions, or paths of images.

    Returns:
        int64 (N,).
    """
    numbers = []
    for text in texts:
        plain = _BLANKS.sub(" ", text.casefold()).strip().rstrip(".").rstrip()
        digest = hashlib.sha256(plain.encode("utf-8", "surrogateescape")).digest()
        numbers.append(int.from_bytes(digest[:8], "little", signed=True))
    return torch.tensor(numbers, dtype=torch.int64)


def true_negatives(*identities: Tensor) -> Tensor:
    """Which pairs of a batch may be pushed apart.

    Args:
        identities: int64 (B,) each, of captions and, where one image has several captions, of images.

    Returns:
        bool (B, B): False where i and j share any of them, and so on the diagonal.
    """
    same = torch.stack([each[:, None] == each[None, :] for each in identities])
    return ~same.any(dim=0)


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
    return both_directions(image, text, temperature, beta1=beta1, beta2=beta2, alpha=alpha, negatives=negatives)


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


class ContrastiveLoss(Protocol):
    """What every loss is: see `dhn_nce` for the arguments."""

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        temperature: Tensor | float,
        beta1: float,
        beta2: float,
        *,
        negatives: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar."""


LOSSES: Mapping[str, ContrastiveLoss] = {
    "dhn-nce": dhn_nce,
    "hn-nce": hn_nce,
    "dcl": dcl,
    "infonce": infonce,
    "as-released": as_released,
}


def find_loss(name: str) -> ContrastiveLoss:
    """The loss of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in LOSSES:
        raise UsageError(f"there is no loss {name!r}; expected one of {', '.join(LOSSES)}")
    return LOSSES[name]

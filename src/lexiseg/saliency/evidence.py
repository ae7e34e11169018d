"""Is the phrase in the scan at all?  From evidence to a number in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.protocols import Encoder
from lexiseg.saliency.settings import PresenceSettings
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import FloatArray


def sigmoid_trained(encoder: Encoder) -> bool:
    """True where a logit alone is a probability: sigmoid training learns a bias, softmax training none."""
    return encoder.logit_bias != 0


def cosines(embeddings: Tensor, phrases: Sequence[PhraseEmbedding]) -> Tensor:
    """Cosine of each embedding with each phrase: (..., E) unit vectors and N phrases give (..., N)."""
    return embeddings @ torch.stack([phrase.positive for phrase in phrases]).T


def phrase_logits(embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float, bias: float) -> Tensor:
    """``scale * cosine + bias``: (..., E) unit vectors and N phrases give (..., N)."""
    return scale * cosines(embeddings, phrases) + bias


def phrase_margins(embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float) -> Tensor:
    r"""Log-odds of each phrase against its own negative phrases.

    .. math:: m = s\,e^\top t - \log \sum_j \exp(s\,e^\top n_j)

    so that ``sigmoid(m)`` is the phrase's share of the softmax over {phrase, negatives}.  A bias cancels.

    Args:
        embeddings: (..., E) unit vectors.
        phrases: N phrases, each with at least one negative.
        scale: s, the encoder's logit scale.

    Returns:
        (..., N).
    """
    logits = scale * cosines(embeddings, phrases)
    negatives = [torch.logsumexp(scale * embeddings @ phrase.negatives.T, dim=-1) for phrase in phrases]
    return logits - torch.stack(negatives, dim=-1)


# Keeps log-odds finite: a probability of exactly 0 or 1 is a rounding, not a certainty.
_EDGE = 1e-7


def presence_score(evidence: Mapping[str, float], *, settings: PresenceSettings | None = None) -> float:
    r"""Presence in [0, 1] from a `Saliency`'s evidence.

    .. math:: p = p_d^{\,1 - g}\; p_g^{\,g}, \qquad \text{presence} = \sigma(a \operatorname{logit}(p) + b)

    with :math:`p_d` the evidence ``dense`` (mean of the dense probability's largest pixels) and :math:`p_g`
    the evidence ``global`` (``sigmoid(logit)`` for a sigmoid-trained encoder, the softmax of the phrase
    against its negative phrases for a softmax-trained one).  A geometric mean, since both must speak for the
    phrase.  Where only one of the two is there, it is p; the settings' weight then has no effect.

    Returns:
        The presence, or NaN where there is neither: undefined is not absent.
    """
    settings = settings or PresenceSettings()
    dense, whole = evidence.get("dense"), evidence.get("global")
    if dense is None and whole is None:
        return math.nan
    if dense is None or whole is None:
        probability = dense if dense is not None else whole
        assert probability is not None
    else:
        probability = geometric_mean(dense, whole, settings.global_weight)
    return platt(probability, a=settings.a, b=settings.b)


def top_fraction_mean(probability: FloatArray, fraction: float = 0.01) -> float:
    """Mean of the largest `fraction` of a map's pixels (at least one): as evidence, steadier than the
    maximum.

    Args:
        probability: any shape, not empty.
        fraction: above 0 and at most 1.
    """
    values = probability.reshape(-1)
    count = max(1, round(fraction * values.size))
    return float(np.partition(values, values.size - count)[-count:].mean(dtype=np.float64))


def geometric_mean(first: float, second: float, weight: float) -> float:
    """``first ** (1 - weight) * second ** weight``; a weight of 0 or 1 leaves one of them out."""
    return float(first ** (1 - weight) * second**weight)


def platt(probability: float, *, a: float, b: float) -> float:
    """``sigmoid(a * logit(p) + b)``; a = 1 and b = 0 change nothing."""
    clipped = min(max(probability, _EDGE), 1 - _EDGE)
    log_odds = a * math.log(clipped / (1 - clipped)) + b
    return 0.5 * (1 + math.tanh(log_odds / 2))

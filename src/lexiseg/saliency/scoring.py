"""How well embeddings fit phrases: logits, and margins against null phrases."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lexiseg.models.encoder import Encoder
from lexiseg.prompts.embedding import PhraseEmbedding


def sigmoid_trained(encoder: Encoder) -> bool:
    """True where a logit alone is a probability: sigmoid training learns a bias, softmax training none."""
    return encoder.logit_bias != 0


def cosines(embeddings: Tensor, phrases: Sequence[PhraseEmbedding]) -> Tensor:
    """Cosine of each embedding with each phrase: (..., E) unit vectors and N phrases give (..., N)."""
    return embeddings @ torch.stack([phrase.positive for phrase in phrases]).T


def phrase_logits(
    embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float, bias: float
) -> Tensor:
    """``scale * cosine + bias``: (..., E) unit vectors and N phrases give (..., N)."""
    return scale * cosines(embeddings, phrases) + bias


def phrase_margins(embeddings: Tensor, phrases: Sequence[PhraseEmbedding], *, scale: float) -> Tensor:
    r"""Log-odds of each phrase against its own null phrases.

    .. math:: m = s\,e^\top t - \log \sum_j \exp(s\,e^\top n_j)

    so that ``sigmoid(m)`` is the phrase's share of the softmax over {phrase, nulls}.  A bias cancels.

    Args:
        embeddings: (..., E) unit vectors.
        phrases: N phrases, each with at least one null.
        scale: s, the encoder's logit scale.

    Returns:
        (..., N).
    """
    logits = scale * cosines(embeddings, phrases)
    nulls = [torch.logsumexp(scale * embeddings @ phrase.nulls.T, dim=-1) for phrase in phrases]
    return logits - torch.stack(nulls, dim=-1)

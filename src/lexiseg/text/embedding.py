"""Phrase sets as vectors: one call of the text tower for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lexiseg.text.phrases import PhraseSet

if TYPE_CHECKING:
    from torch import Tensor

    from lexiseg.models.protocols import Encoder


@dataclass(frozen=True, eq=False)
class PhraseEmbedding:
    """A phrase in the encoder's space.

    Attributes:
        text: the phrase.
        positive: (E,) float32, unit length: the normalised mean of its wordings' unit embeddings.
        negatives: (M, E) float32, each of unit length; M may be 0.
        regions: of how many separate regions the target usually consists.
    """

    text: str
    positive: Tensor
    negatives: Tensor
    regions: int = 1


def embed_phrases(encoder: Encoder, phrases: Sequence[PhraseSet]) -> tuple[PhraseEmbedding, ...]:
    r"""Embed phrase sets; every distinct wording is encoded once, all in a single call.

    The embedding of a set with unit wordings :math:`t_1 \dots t_n` is :math:`\bar t / \lVert \bar t \rVert`
    with :math:`\bar t = \frac1n \sum_i t_i` (prompt ensembling in embedding space: Radford et al. 2021,
    section 3.1.4). The means are over unit vectors, so that no wording counts more for being long.

    Args:
        encoder: its text tower is called once with N distinct phrases.
        phrases: at least one set.

    Raises:
        ValueError: no phrases were given.
    """
    if not phrases:
        raise ValueError("no phrases were given; expected at least one")
    rows: dict[str, int] = {}
    for phrase in phrases:
        for wording in (*phrase.wordings, *phrase.negatives):
            rows.setdefault(wording, len(rows))
    table = encoder.encode_text(tuple(rows)).detach().float()
    table = table / table.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    embedded = []
    for phrase in phrases:
        mean = table[[rows[wording] for wording in phrase.wordings]].mean(dim=0)
        positive = mean / mean.norm().clamp_min(1e-12)
        negatives = table[[rows[wording] for wording in phrase.negatives]] if phrase.negatives else table[:0]
        embedded.append(PhraseEmbedding(phrase.text, positive, negatives, phrase.regions))
    return tuple(embedded)

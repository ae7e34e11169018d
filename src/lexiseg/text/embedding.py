"""Phrases in an encoder's space: what a phrase means to it, and what it measured of what the phrase names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lexiseg.models.protocols import CalibratedEncoder, Encoder
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.calibration import AS_IT_IS, Calibration


@dataclass(frozen=True, eq=False)
class PhraseEmbedding:
    """A phrase in the encoder's space.

    Attributes:
        text: the phrase.
        positive: (E,) float32, unit length: the normalised mean of its wordings' unit embeddings.
        negatives: (M, E) float32, each of unit length; M may be 0.
        regions: of how many separate regions the target usually consists.
        holes: see `Target`.
        calibration: what the encoder measured of it.
    """

    text: str
    positive: Tensor
    negatives: Tensor
    regions: int = 1
    holes: bool = False
    calibration: Calibration = AS_IT_IS


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
    asked = dict.fromkeys(wording for phrase in phrases for wording in (*phrase.wordings, *phrase.negatives))
    rows = {wording: row for row, wording in enumerate(asked)}
    table = encoder.encode_text(tuple(rows)).detach().float()
    table = table / table.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    calibrated = encoder if isinstance(encoder, CalibratedEncoder) else None
    embedded = []
    for phrase in phrases:
        mean = table[[rows[wording] for wording in phrase.wordings]].mean(dim=0)
        positive = mean / mean.norm().clamp_min(1e-12)
        negatives = table[[rows[wording] for wording in phrase.negatives]] if phrase.negatives else table[:0]
        measured = calibrated.calibration(phrase.wordings[0]) if calibrated is not None else AS_IT_IS
        embedded.append(PhraseEmbedding(phrase.text, positive, negatives, phrase.regions, phrase.holes, measured))
    return tuple(embedded)

"""Which of a scan's regions are what a phrase says, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.models.protocols import Encoder
from lexiseg.proposals.crops import CropEmbeddings
from lexiseg.proposals.proposal import Proposal, Proposals
from lexiseg.proposals.settings import RetrievalSettings
from lexiseg.saliency.base import phrase_logits, phrase_margins, sigmoid_trained
from lexiseg.saliency.presence import top_fraction_mean
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.overlap import overlap_coefficient, soft_dice

_PEAK = 0.01


@dataclass(frozen=True, eq=False)
class Match:
    """A proposal that was retrieved for a phrase.

    Attributes:
        index: the proposal's place in its `Proposals`.
        proposal: the proposal itself.
        probability: that it is the target, 0 to 1; NaN where the encoder offers none.
    """

    index: int
    proposal: Proposal
    probability: float


@dataclass(frozen=True, eq=False)
class Matches:
    """What was retrieved for one phrase.

    Attributes:
        phrase: the phrase.
        items: the retrieved proposals, best first; empty where none of the regions is it.
        scores: float64 (N,) of all proposals, in their order: what they are ranked by, larger is better.
        probabilities: float64 (N,) of all proposals, 0 to 1: how likely each is the target; NaN where the
            encoder offers none.
    """

    phrase: str
    items: tuple[Match, ...]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]

    @property
    def probability(self) -> float:
        """Of the best match; 0 where nothing was retrieved, NaN where the encoder offers none."""
        return self.items[0].probability if self.items else 0.0

    def union(self, shape: tuple[int, int]) -> BoolArray:
        """All retrieved regions as one mask, bool (H, W)."""
        found = np.zeros(shape, np.bool_)
        for match in self.items:
            found |= match.proposal.mask
        return found


def retrieve(
    proposals: Proposals,
    phrases: Sequence[PhraseEmbedding],
    settings: RetrievalSettings,
    *,
    encoder: Encoder,
    crops: CropEmbeddings | None = None,
    saliency: Sequence[FloatArray] | None = None,
) -> tuple[Matches, ...]:
    r"""The regions that fit each phrase, of all that were proposed.

    With the crop's unit embedding :math:`e`, the phrase's ensemble :math:`t` and its negative phrases
    :math:`n_j` (what lies around the target, "background", ...), regions are ranked by :math:`e^\top t`,
    and a region's probability is

    - :math:`\sigma(s e^\top t + b)` where the encoder was trained with a sigmoid (it has a bias b);
    - :math:`\exp(s e^\top t) / (\exp(s e^\top t) + \sum_j \exp(s e^\top n_j))` where it was trained with a
      softmax: the negatives must lose, else none of these regions is it; undefined without negatives.

    From a saliency map :math:`m` (values in [0, 1]) a region :math:`R` is ranked by the soft Dice overlap

    .. math:: 2 \sum_{x \in R} m(x) \; / \; \bigl(|R| + \sum_x m(x)\bigr)

    and its probability is the mean of its most salient pixels, as many as make one hundredth of the scan:
    what the map's own evidence of presence would be, were the region all there is.  Of crop and map together
    both are a geometric mean: of the two probabilities, and for the rank of the crop's probability and the
    overlap.

    Targets do not compete: a region may be retrieved for several.

    Args:
        proposals: all regions of a scan; there may be none.
        phrases: the targets.
        settings: see `RetrievalSettings`.
        encoder: whose embeddings they are.
        crops: of these proposals; needed unless the saliency alone is asked for.
        saliency: float32 (H, W) for each phrase; needed unless the crops alone are asked for.

    Returns:
        One for each phrase.

    Raises:
        ValueError: what the settings need was not given.
    """
    if (crops is None and settings.score != "saliency") or (saliency is None and settings.score != "crop"):
        raise ValueError(f"score {settings.score!r} needs crops or saliency maps that were not given")
    found = []
    for index, phrase in enumerate(phrases):
        scores, probabilities = _scores(
            proposals,
            phrase,
            settings,
            encoder=encoder,
            crops=crops,
            saliency=saliency[index] if saliency is not None else None,
        )
        top = settings.top if settings.top is not None else phrase.regions
        covering = saliency[index] if saliency is not None and settings.score != "crop" else None
        taken = _take(proposals, scores, probabilities, settings, top=top, saliency=covering)
        items = tuple(Match(i, proposals[i], float(probabilities[i])) for i in taken)
        found.append(Matches(phrase.text, items, scores, probabilities))
    return tuple(found)


Values = NDArray[np.float64]


def _scores(
    proposals: Proposals,
    phrase: PhraseEmbedding,
    settings: RetrievalSettings,
    *,
    encoder: Encoder,
    crops: CropEmbeddings | None,
    saliency: FloatArray | None,
) -> tuple[Values, Values]:
    """What regions are ranked by, and their probabilities; -inf and 0 for a region nothing is known of."""
    parts = []
    if settings.score != "saliency":
        assert crops is not None
        parts.append(_of_crops(len(proposals), crops, phrase, encoder))
    if settings.score != "crop":
        assert saliency is not None
        covered = np.array([soft_dice(saliency, proposal.mask) for proposal in proposals], np.float64)
        inside = np.array([peak(saliency, proposal.mask) for proposal in proposals], np.float64)
        parts.append((covered, inside))
    if len(parts) == 1:
        return parts[0]
    (_, shown), (covered, inside) = parts
    return np.sqrt(shown * covered), np.sqrt(shown * inside)


def _of_crops(count: int, crops: CropEmbeddings, phrase: PhraseEmbedding, encoder: Encoder) -> tuple[Values, Values]:
    scores, probabilities = np.full(count, -np.inf), np.zeros(count)
    if not crops.indices:
        return scores, probabilities
    where = list(crops.indices)
    logits = phrase_logits(crops.rows, [phrase], scale=encoder.logit_scale, bias=encoder.logit_bias)[:, 0]
    scores[where] = _plain(logits)
    if sigmoid_trained(encoder):
        probabilities[where] = _plain(logits.sigmoid())
    elif len(phrase.negatives):
        margins = phrase_margins(crops.rows, [phrase], scale=encoder.logit_scale)[:, 0]
        probabilities[where] = _plain(margins.sigmoid())
    else:
        probabilities[where] = np.nan
    return scores, probabilities


def peak(saliency: FloatArray, mask: BoolArray) -> float:
    """Mean of the mask's most salient pixels, as many as make one hundredth of the scan (or all it has)."""
    inside = saliency[mask]
    return top_fraction_mean(inside, min(1.0, _PEAK * mask.size / inside.size))


def _take(
    proposals: Proposals,
    scores: Values,
    probabilities: Values,
    settings: RetrievalSettings,
    *,
    top: int,
    saliency: FloatArray | None,
) -> list[int]:
    """Places of the regions that are taken, best first; equal scores in the proposals' order.

    Weighed by a map, a further region must also bring all of them together nearer to it: where the first
    holds both lungs, the next best is no lung.
    """
    taken: list[int] = []
    union = np.zeros(proposals.shape, np.bool_)
    for index in np.argsort(-scores, kind="stable").tolist():
        if len(taken) == top:
            break
        if not np.isfinite(scores[index]) or probabilities[index] < settings.min_score:
            continue
        mask = proposals[index].mask
        if any(overlap_coefficient(mask, proposals[earlier].mask) > settings.distinct for earlier in taken):
            continue
        if taken and saliency is not None and soft_dice(saliency, union | mask) <= soft_dice(saliency, union):
            continue
        taken.append(index)
        union = union | mask
    return taken


def _plain(values: Any) -> Values:
    return np.asarray(values.cpu().numpy(), np.float64)

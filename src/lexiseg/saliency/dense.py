"""Dense similarity: each position's own embedding against the phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lexiseg.errors import UsageError
from lexiseg.models.encoder import Encoder
from lexiseg.prompts.embedding import PhraseEmbedding
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, stretch
from lexiseg.saliency.presence import top_fraction_mean
from lexiseg.saliency.scoring import phrase_logits, phrase_margins, sigmoid_trained
from lexiseg.saliency.shifts import interleave, shifted_views

Activation = Literal["auto", "sigmoid", "softmax", "minmax"]

_GRIDS: WeakKeyDictionary[Encoder, tuple[int, int]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class DenseSimilarity(SaliencyMethod):
    r"""Cosine between each position's projected feature :math:`f_{ij}` and the phrase :math:`t` (as in
    MaskCLIP, Zhou et al., ECCV 2022), made a saliency by one of

    - ``sigmoid``: :math:`\sigma(s f_{ij}^\top t + b)`, the probability that a tower trained with a sigmoid at
      each position gives;
    - ``softmax``: :math:`\exp(s f^\top t) / (\exp(s f^\top t) + \sum_j \exp(s f^\top n_j))`, the phrase's
      share against its null phrases :math:`n_j`;
    - ``minmax``: the cosine stretched to [0, 1] over the scan.  It always marks something: absence is lost;
    - ``auto``: sigmoid where the encoder has a logit bias, else softmax where the phrase has nulls, else
      minmax.

    Log-odds, not probabilities, are interpolated to the scan's grid, so that a 0.5 contour lies where a
    linear boundary between two positions would.

    Test-time averaging: ``shifts`` (below) and ``framing="pyramid"`` (two scales).  Flips are not offered: a
    mirrored left lung is a right lung.

    Attributes:
        activation: see above.
        shifts: n views for each axis, moved by 1/n of the tower's stride: n times the map's resolution for
            n * n forwards (exact for a convolutional tower away from the edges, an approximation where
            positions are embedded).
        batch: views per forward.
        top_fraction: the share of pixels whose mean probability is the evidence ``dense``.
    """

    name: ClassVar[str] = "dense"

    activation: Activation = "auto"
    shifts: int = 1
    batch: int = 16
    top_fraction: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ("auto", "sigmoid", "softmax", "minmax"):
            raise UsageError(
                f"dense: activation is {self.activation!r}; expected auto, sigmoid, softmax or minmax"
            )
        if self.shifts < 1 or self.batch < 1:
            raise UsageError(
                f"dense: shifts is {self.shifts} and batch {self.batch}; expected at least 1 each"
            )
        if not 0 < self.top_fraction <= 1:
            raise UsageError(f"dense: top_fraction is {self.top_fraction}; expected above 0 and at most 1")

    def look(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward where the tower allows it, with shifts their square and one more; for all phrases."""
        dense, whole = self._encoded(encoder, view)
        positions, embedding = dense.permute(1, 2, 0), whole.detach().float()
        maps = [self._log_odds(encoder, positions, phrase) for phrase in phrases]
        progress(1.0)
        return Raw(torch.stack(maps), embedding, "dense")

    def activate(self, encoder: Encoder, raw: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Log-odds to a probability; or the stretch."""
        if self._kind(encoder, phrase) != "minmax":
            return torch.sigmoid(raw)
        return stretch(raw[None])[0]

    def evidence(
        self, encoder: Encoder, saliency: Tensor, raw: Raw, phrase: PhraseEmbedding
    ) -> dict[str, float]:
        """The global evidence, and ``dense`` where the map is a probability."""
        found = super().evidence(encoder, saliency, raw, phrase)
        if self._kind(encoder, phrase) != "minmax":
            found["dense"] = top_fraction_mean(saliency.cpu().numpy(), self.top_fraction)
        return found

    def _kind(self, encoder: Encoder, phrase: PhraseEmbedding) -> Activation:
        if self.activation != "auto":
            return self.activation
        if sigmoid_trained(encoder):
            return "sigmoid"
        return "softmax" if len(phrase.nulls) else "minmax"

    def _log_odds(self, encoder: Encoder, positions: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Positions (h, w, E) to (h, w)."""
        if self._kind(encoder, phrase) == "softmax":
            if not len(phrase.nulls):
                raise UsageError(f"dense: softmax needs null phrases, {phrase.text!r} has none; use minmax")
            return phrase_margins(positions, [phrase], scale=encoder.logit_scale)[..., 0]
        scale, bias = encoder.logit_scale, encoder.logit_bias
        return phrase_logits(positions, [phrase], scale=scale, bias=bias)[..., 0]

    def _encoded(self, encoder: Encoder, view: Tensor) -> tuple[Tensor, Tensor]:
        """(E, h * shifts, w * shifts) of the positions, and (1, E) of the view."""
        if self.shifts == 1:
            dense, whole = encoder.encode_dense_and_image(view)
            return dense[0].detach().float(), whole
        height, width = _grid(encoder, view)
        strides = (view.shape[-2] / height, view.shape[-1] / width)
        views = shifted_views(view, strides, self.shifts)
        maps = [encoder.encode_dense(part).detach().float() for part in torch.split(views, self.batch)]
        return interleave(torch.cat(maps), self.shifts), encoder.encode_image(view)


def _grid(encoder: Encoder, view: Tensor) -> tuple[int, int]:
    """(h, w) of the encoder's dense map, asked once for each encoder: shifts must know the stride first."""
    known = _GRIDS.get(encoder)
    if known is None:
        height, width = encoder.encode_dense(view).shape[-2:]
        known = _GRIDS[encoder] = (int(height), int(width))
    return known

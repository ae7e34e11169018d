"""Recipro-CAM: what the encoder says of the scan when it sees one position of a layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, cosines, stretch
from lexiseg.saliency.onward import block_of, look_at
from lexiseg.saliency.settings import ReciproCAMSettings
from lexiseg.text.embedding import PhraseEmbedding

_KERNEL = torch.tensor([1.0, 2.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class ReciproCAM(ReciproCAMSettings, SaliencyMethod):
    r"""Recipro-CAM (Byun and Lee, 2022; for ViTs 2023) with the phrase's cosine as the score; no gradient.

    With :math:`A` the layer's features, :math:`M_{ij}` a 3 x 3 binomial kernel around a position, and :math:`f` what
    follows the layer, the map is stretched to [0, 1]:

    .. math:: L^{ij} = \cos(f(A \circ M_{ij}), t)

    Tokens in front of the positions (class, registers) stay as they are.
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, and of what follows the layer one for each position, for all phrases."""
        layer = self.layer or block_of(encoder)
        seen = look_at(encoder, view, layer)
        masks, grid = position_masks(seen.features)
        scores = []
        with torch.no_grad():
            for start in range(0, len(masks), self.batch):
                shown = seen.features * masks[start : start + self.batch]
                scores.append(cosines(seen.forward(shown).detach().float(), phrases))
                progress(min(1.0, (start + self.batch) / len(masks)))
        return Raw(torch.cat(scores).T.reshape(len(phrases), *grid), seen.embedding, layer)

    def activate(self, encoder: Encoder, raw: Tensor, phrase: PhraseEmbedding) -> Tensor:
        """Stretched to [0, 1], as published: something always stands out."""
        return stretch(raw[None])[0]


def position_masks(features: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """A mask for each position of a layer's features, and the grid they lie on.

    Args:
        features: maps (1, C, h, w) or tokens (1, p + n n, C).

    Returns:
        (h w, 1, h, w) or (n n, p + n n, 1), in [0, 1]: 1 at the position, 1/2 beside and 1/4 diagonal to it.
    """
    if features.ndim == 4:
        height, width = features.shape[2:]
        prefix = 0
    else:
        height = width = int(features.shape[1] ** 0.5)
        prefix = features.shape[1] - height * width
    kernel = torch.outer(_KERNEL, _KERNEL).to(features) / 4
    masks = features.new_zeros(height * width, height, width)
    for index in range(height * width):
        canvas = pad(torch.zeros_like(masks[0]), (1, 1, 1, 1))
        row, column = divmod(index, width)
        canvas[row : row + 3, column : column + 3] = kernel
        masks[index] = canvas[1:-1, 1:-1]
    if features.ndim == 4:
        return masks[:, None], (height, width)
    front = masks.new_ones(len(masks), prefix)
    return torch.cat([front, masks.flatten(1)], dim=1)[..., None], (height, width)

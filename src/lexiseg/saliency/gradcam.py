"""Grad-CAM for a phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lexiseg.models.encoder import Encoder
from lexiseg.prompts.embedding import PhraseEmbedding
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod
from lexiseg.saliency.importance import channel_importance
from lexiseg.saliency.scoring import cosines


@dataclass(frozen=True, kw_only=True)
class GradCAM(SaliencyMethod):
    r"""Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) with the phrase's cosine as the score.

    .. math::
        w_c = \frac{1}{hw} \sum_{ij} \frac{\partial S}{\partial A_c^{ij}}, \qquad
        L = \mathrm{ReLU}\Big(\sum_c w_c A_c\Big)

    Attributes:
        layer: the target layer; None for the encoder's default.
    """

    name: ClassVar[str] = "gradcam"

    layer: str | None = None

    def look(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, one backward for each phrase."""
        layer = self.layer or encoder.default_layer()
        found = channel_importance(encoder, view, layer, lambda e: cosines(e, phrases), phrases)
        maps = torch.einsum("nc,chw->nhw", found.importance, found.maps)
        return Raw(maps, found.embedding[None], layer)

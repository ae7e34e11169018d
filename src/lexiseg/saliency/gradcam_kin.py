"""Grad-CAM++ and LayerCAM: Grad-CAM's relatives that weigh positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, cosines
from lexiseg.saliency.gradcam import layer_gradients
from lexiseg.saliency.settings import GradCAMPlusPlusSettings, LayerCAMSettings
from lexiseg.text.embedding import PhraseEmbedding


@dataclass(frozen=True, kw_only=True)
class GradCAMPlusPlus(GradCAMPlusPlusSettings, SaliencyMethod):
    r"""Grad-CAM++ (Chattopadhay et al., WACV 2018, equations 10 and 19) with the phrase's cosine as the score.

    With :math:`g` the gradient of the score :math:`S` at a position of channel :math:`A_c`:

    .. math::
        \alpha_c^{ij} = \frac{(g_c^{ij})^2}{2 (g_c^{ij})^2 + \sum_{ab} A_c^{ab}\,(g_c^{ij})^3}, \qquad
        w_c = \sum_{ij} \alpha_c^{ij}\, \mathrm{ReLU}(g_c^{ij}), \qquad L = \mathrm{ReLU}\Big(\sum_c w_c A_c\Big)

    A position whose denominator is 0 has no weight.
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, one backward for each phrase."""
        layer = self.layer or encoder.default_layer()
        found = layer_gradients(encoder, view, layer, lambda e: cosines(e, phrases), phrases)
        square = found.gradients.square()
        total = found.maps.sum(dim=(1, 2))[None, :, None, None]
        below = 2 * square + total * square * found.gradients
        alpha = torch.where(below != 0, square / torch.where(below != 0, below, 1), 0)
        weights = (alpha * found.gradients.clamp_min(0)).sum(dim=(2, 3))
        return Raw(torch.einsum("nc,chw->nhw", weights, found.maps), found.embedding[None], layer)


@dataclass(frozen=True, kw_only=True)
class LayerCAM(LayerCAMSettings, SaliencyMethod):
    r"""LayerCAM (Jiang et al., IEEE TIP 2021, equations 5 to 7) with the phrase's cosine as the score.

    .. math:: L^{ij} = \mathrm{ReLU}\Big(\sum_c \mathrm{ReLU}(g_c^{ij})\, A_c^{ij}\Big)
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, one backward for each phrase."""
        layer = self.layer or encoder.default_layer()
        found = layer_gradients(encoder, view, layer, lambda e: cosines(e, phrases), phrases)
        maps = (found.gradients.clamp_min(0) * found.maps).sum(dim=1)
        return Raw(maps, found.embedding[None], layer)

"""Grad-CAM for a phrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.errors import BrokenWeights, UnsupportedByModel
from lexiseg.models.protocols import Encoder
from lexiseg.saliency.base import Progress, Raw, SaliencyMethod, cosines
from lexiseg.saliency.settings import GradCAMSettings
from lexiseg.text.embedding import PhraseEmbedding

Score = Callable[[Tensor], Tensor]

# Importances that differ by less than this share of the largest are ties: the sort's order, not the phrase's.
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class ChannelImportance:
    """A layer's channels, and how much each phrase's score depends on them.

    Attributes:
        maps: (C, h, w) the layer's activations.
        importance: (N, C) the gradients of the N phrases' scores, averaged over positions.
        embedding: (E,) the image's own unit embedding, from the same forward.
    """

    maps: Tensor
    importance: Tensor
    embedding: Tensor


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """A layer's maps, and how each phrase's score changes with them.

    Attributes:
        maps: (C, h, w) the layer's activations.
        gradients: (N, C, h, w) of the N phrases' scores.
        embedding: (E,) the image's own unit embedding, from the same forward.
    """

    maps: Tensor
    gradients: Tensor
    embedding: Tensor


def layer_gradients(
    encoder: Encoder, view: Tensor, layer: str, score: Score, phrases: Sequence[PhraseEmbedding]
) -> LayerGradients:
    """One forward, N backwards.

    Args:
        encoder: whose layer.
        view: (1, 3, S, S) in [0, 1].
        layer: one of ``encoder.layers()``.
        score: takes embeddings (B, E) to scores (B, N).
        phrases: the N phrases, for the error's text.

    Raises:
        UnsupportedByModel: the layer is unknown, or a phrase's mean gradient is the same for every channel.
        BrokenWeights: activations or gradients are not finite.
    """
    seen: list[Tensor] = []

    def scores_of_image(embedding: Tensor) -> Tensor:
        seen.append(embedding.detach())
        # An encoder may call this under its own autocast; a score in bfloat16 would round the gradients.
        with torch.autocast(embedding.device.type, enabled=False):
            return score(embedding.float())[0]

    maps, gradients = encoder.activations(view, layer, scores_of_image)
    if gradients is None:
        raise UnsupportedByModel(f"{encoder.name} returned no gradients for layer {layer!r}; choose another layer")
    maps, gradients = maps.detach().float(), gradients.detach().float()
    if not (bool(torch.isfinite(maps).all()) and bool(torch.isfinite(gradients).all())):
        raise BrokenWeights(
            f"{encoder.name}: layer {layer!r} gives values that are not finite; "
            "expected finite activations and gradients; check the weights or use float32"
        )
    _require_order(encoder, layer, gradients.mean(dim=(2, 3)), phrases)
    return LayerGradients(maps, gradients, seen[-1][0].float())


def channel_importance(
    encoder: Encoder, view: Tensor, layer: str, score: Score, phrases: Sequence[PhraseEmbedding]
) -> ChannelImportance:
    r"""The gradients' means; arguments and errors as `layer_gradients`.

    .. math:: w_c^n = \frac{1}{hw} \sum_{ij} \frac{\partial S_n}{\partial A_c^{ij}}
    """
    found = layer_gradients(encoder, view, layer, score, phrases)
    return ChannelImportance(found.maps, found.gradients.mean(dim=(2, 3)), found.embedding)


def _require_order(encoder: Encoder, layer: str, importance: Tensor, phrases: Sequence[PhraseEmbedding]) -> None:
    """Refuse ties: a last block's patch tokens never reach a class-token embedding; their gradient is 0."""
    largest = importance.abs().amax(dim=1)
    spread = importance.amax(dim=1) - importance.amin(dim=1)
    flat = (largest == 0) | ((spread <= _TIE * largest) & (importance.shape[1] > 1))
    if bool(flat.any()):
        phrase = phrases[int(flat.int().argmax())].text
        raise UnsupportedByModel(
            f"layer {layer!r} of {encoder.name}: the gradient for {phrase!r} is the same for all "
            f"{importance.shape[1]} channels, so its positions do not influence the embedding; "
            f"choose an earlier layer, for example {encoder.default_layer()!r}"
        )


@dataclass(frozen=True, kw_only=True)
class GradCAM(GradCAMSettings, SaliencyMethod):
    r"""Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2) with the phrase's cosine as the score.

    .. math::
        w_c = \frac{1}{hw} \sum_{ij} \frac{\partial S}{\partial A_c^{ij}}, \qquad
        L = \mathrm{ReLU}\Big(\sum_c w_c A_c\Big)
    """

    def compute_maps(
        self, encoder: Encoder, view: Tensor, phrases: Sequence[PhraseEmbedding], progress: Progress
    ) -> Raw:
        """One forward, one backward for each phrase."""
        layer = self.layer or encoder.default_layer()
        found = channel_importance(encoder, view, layer, lambda e: cosines(e, phrases), phrases)
        maps = torch.einsum("nc,chw->nhw", found.importance, found.maps)
        return Raw(maps, found.embedding[None], layer)

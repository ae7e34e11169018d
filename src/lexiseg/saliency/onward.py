"""A layer's features, and what the encoder makes of others in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.protocols import Encoder


@dataclass(frozen=True, eq=False)
class Onward:
    """One view, seen at a layer.

    Attributes:
        features: the layer's, tokens (1, p + n n, C) or maps (1, C, h, w), float32.
        embedding: (1, E) the view's own, of unit length.
        forward: features of B images in place of these to embeddings (B, E) of unit length, differentiable.
    """

    features: Tensor
    embedding: Tensor
    forward: Callable[[Tensor], Tensor]


def look_at(encoder: Encoder, view: Tensor, layer: str) -> Onward:
    """Run a view (1, 3, S, S) once.

    What follows the layer is run alone where the encoder knows it, else the whole tower with the features replaced.

    Raises:
        UnsupportedByModel: the encoder has no such layer, or its output is neither tokens nor maps.
    """
    seen: list[Tensor] = []

    def keep(features: Tensor) -> Tensor:
        seen.append(features.detach().float())
        return features

    with torch.no_grad(), encoder.patched(layer, keep):
        embedding = encoder.encode_image(view).detach().float()
    if not seen:
        raise UnsupportedByModel(f"the layer {layer!r} of {encoder.name} takes no part in encoding an image")
    features = seen[0]

    def alone(shown: Tensor) -> Tensor:
        return encoder.forward_from(layer, shown)

    def whole(shown: Tensor) -> Tensor:
        with encoder.patched(layer, lambda _: shown):
            return encoder.encode_image(view.expand(len(shown), -1, -1, -1))

    try:
        with torch.no_grad():
            alone(features)
    except UnsupportedByModel:
        return Onward(features, embedding, whole)
    return Onward(features, embedding, alone)


def block_of(encoder: Encoder) -> str:
    """The whole block that closes the first three quarters of a ViT's; of other towers the default layer.

    In a ViT of 12 blocks that is the ninth, where the released code of M2IB puts its bottleneck.
    """
    blocks = [name for name in encoder.layers() if name.rpartition(".")[2].isdigit() and "blocks." in name]
    return blocks[max(0, round(0.75 * len(blocks)) - 1)] if blocks else encoder.default_layer()


def on_grid(per_position: Tensor) -> Tensor:
    """Values of maps (h, w), or of tokens (p + n n), to (h, w): the p tokens in front are left out."""
    if per_position.ndim == 2:
        return per_position
    side = int(len(per_position) ** 0.5)
    return per_position[len(per_position) - side * side :].reshape(side, side)

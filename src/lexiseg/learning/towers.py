"""An encoder's two towers as one module that can be trained, wrapped and split over processes."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.models import OpenClipEncoder

_LARGEST_SCALE = 4.6052  # log 100, as CLIP has it


class Towers(nn.Module):
    """Pixels and tokens in, unit embeddings out.

    Batch norms keep the statistics that the encoder came with: an embedding then depends on its own image
    alone, so that a batch may be cut into chunks or spread over processes and give the same gradient.

    Args:
        encoder: whose model is trained; it is the same module, not a copy.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: OpenClipEncoder) -> None:
        super().__init__()
        self.model = encoder.model
        std = torch.tensor(cast(Any, encoder.model).visual.preprocess_cfg["std"], dtype=torch.float32)
        self.register_buffer("mean", encoder.mean.detach().clone(), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1).to(encoder.device), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings and the learnt scale.

        Args:
            pixels: float32 (B, 3, S, S) in [0, 1].
            tokens: int64 (B, L).

        Returns:
            image and text embeddings, float32 (B, E), unit length, and exp of the log-temperature, a scalar:
            it is an output so that its gradient takes the same way as all others.
        """
        model = cast(Any, self.model)
        normalised = (pixels - self.mean) / self.std
        image = functional.normalize(model.encode_image(normalised).float(), dim=-1)
        text = functional.normalize(model.encode_text(tokens).float(), dim=-1)
        return image, text, model.logit_scale.exp().reshape(())

    @torch.no_grad()
    def keep_scale_in_range(self) -> None:
        """Keep the learnt scale between 1 and 100."""
        cast(Any, self.model).logit_scale.clamp_(0, _LARGEST_SCALE)

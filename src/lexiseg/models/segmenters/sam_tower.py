"""SAM with a timm network where the published one has a plain vision transformer.

The prompt encoder and the mask decoder are transformers' own; what they ask of an image encoder is one map of
embeddings.  A small network that photographs taught gives a better one than a transformer of its size
that begins from nothing (MobileSAM: Zhang et al., arXiv 2306.14289).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SamConfig, SamModel, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoderOutput

from lexiseg.models.fpn import current_name
from lexiseg.models.weights.int8 import unpack


class TowerSamConfig(SamConfig):  # type: ignore[misc]  # transformers is untyped to mypy
    """A SAM's configuration.

    Its `vision_config` has an `image_tower` besides, timm's name of a network with `forward_features` and
    `num_features`; `patch_size` there is the tower's stride, and what only a transformer has is idle.
    """

    model_type = "sam_tower"


class TowerVision(nn.Module):
    """A timm network behind the interface of transformers' `SamVisionEncoder`.

    Args:
        config: which network, and how many channels it gives.
    """

    def __init__(self, config: SamVisionConfig) -> None:
        super().__init__()
        # Whoever builds on the meta device fills in the weights, but a timm network may hold tables that no
        # file has.
        with torch.device("cpu"):
            self.tower = timm.create_model(
                current_name(config.image_tower), num_classes=0, num_features=config.output_channels
            )

    def forward(self, pixel_values: Tensor, **_: Any) -> SamVisionEncoderOutput:
        """Pixels (B, 3, H, W) to embeddings (B, output_channels, H / patch_size, W / patch_size)."""
        return SamVisionEncoderOutput(last_hidden_state=self.tower.forward_features(pixel_values))


class TowerSam(SamModel):  # type: ignore[misc]
    """transformers' SamModel, all but its image encoder."""

    config_class = TowerSamConfig

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> TowerSam:
        """transformers' own, for a folder on disk whose large arrays may be int8.

        Args:
            folder: config.json and model.safetensors.
            options: transformers' own.

        Raises:
            FileNotFoundError: the folder has no model.safetensors.
            ValueError: int8 weights lack their scales.
        """
        state = load_file(Path(folder) / "model.safetensors")
        unpack(state)
        config = options.pop("config", None) or cls.config_class.from_pretrained(folder)
        made: TowerSam = super().from_pretrained(None, config=config, state_dict=state, **options)
        return made

    def __init__(self, config: TowerSamConfig) -> None:
        super().__init__(config)
        self.vision_encoder = TowerVision(config.vision_config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # `from_pretrained` empties the tables that no file has, and asks here for them.
        fill = getattr(module, "init_non_persistent_buffers", None)
        if fill is not None:
            fill()

"""A checkpoint in the layout of mobile_sam.pt: MobileSAM's networks with random numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from checkpoints import original_name, randomise
from torch import Tensor

from lexiseg.models.segmenters.sam_folder import TowerSam, TowerSamConfig

CONFIG: dict[str, Any] = {
    "vision_config": {
        "image_tower": "sam_tiny_vit_5m", "image_size": 1024, "patch_size": 16, "output_channels": 256,
        "num_pos_feats": 128, "hidden_size": 8, "num_hidden_layers": 0,
    },
    "prompt_encoder_config": {"hidden_size": 256, "image_size": 1024, "patch_size": 16},
    "mask_decoder_config": {"hidden_size": 256},
}  # fmt: skip


def make_mobile_sam_pt(path: Path, *, seed: int = 0) -> Path:
    """The published file's names and shapes, to the last tensor; batch norms as a training leaves them."""
    torch.manual_seed(seed)
    model = TowerSam(TowerSamConfig(**CONFIG)).eval()
    randomise(model, seed)
    state = {published_name(k): v for k, v in model.state_dict().items() if "shared_embedding" not in k}
    torch.save({**state, **classifier()}, path)
    return path


def classifier() -> dict[str, Tensor]:
    """What the published file carries of ImageNet's classifier."""
    shapes = {"head.weight": (1000, 320), "head.bias": (1000,), "norm_head.weight": (320,), "norm_head.bias": (320,)}
    return {f"image_encoder.{name}": torch.zeros(shape) for name, shape in shapes.items()}


def published_name(key: str) -> str:
    """Our name of a tensor -> the published file's."""
    if not key.startswith("vision_encoder.tower."):
        return original_name(key)
    key = key.replace("vision_encoder.tower.", "image_encoder.").replace(".conv.weight", ".c.weight")
    key = key.replace("patch_embed.conv1.", "patch_embed.seq.0.").replace("patch_embed.conv2.", "patch_embed.seq.2.")
    key = re.sub(r"stages\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", key)
    return key.replace(".stages.", ".layers.")

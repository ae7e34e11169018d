"""MobileSAM as published (`mobile_sam.pt`): SAM's prompt encoder and mask decoder behind a TinyViT."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lexiseg.models.families import ModelFiles
    from lexiseg.models.segmenters.sam import SamSegmenter

logger = logging.getLogger(__name__)

NAME = "MobileSAM (mobile_sam.pt)"
PUBLISHED_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
_MARK = "image_encoder.patch_embed.seq.0.c.weight"
_INPUT, _STRIDE = 1024, 16
# The classifier of ImageNet, which the published file still carries and nothing reads.
_IDLE = ("image_encoder.head.", "image_encoder.norm_head.")
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\.c\.weight$", ".conv.weight"),
        (r"^image_encoder\.patch_embed\.seq\.0\.", "image_encoder.patch_embed.conv1."),
        (r"^image_encoder\.patch_embed\.seq\.2\.", "image_encoder.patch_embed.conv2."),
        (r"^image_encoder\.layers\.(\d)\.blocks\.", r"image_encoder.stages.\1.blocks."),
    )
)
_DOWNSAMPLE = re.compile(r"^image_encoder\.layers\.(\d)\.downsample\.")
_PREFIX = "vision_encoder.tower."


def recognises(files: ModelFiles) -> bool:
    """An original checkpoint whose image encoder begins as TinyViT does."""
    return not files.is_folder and _MARK in files.keys


def load(files: ModelFiles, *, device: torch.device, precision: str) -> SamSegmenter:
    """The segmenter of an original checkpoint.

    The file does not say for which input it was trained. MobileSAM's is 1024 pixels; of a file that is not the
    published one a log line says so.
    """
    from lexiseg.models.segmenters.sam import SamSegmenter
    from lexiseg.models.segmenters.sam_checkpoint import read_checkpoint, reading_shapes
    from lexiseg.models.segmenters.sam_folder import build_sam
    from lexiseg.models.segmenters.sam_pixels import PillowProcessor

    state = read_checkpoint(files.place)
    info = files.info
    if info.sha256 != PUBLISHED_SHA256:
        logger.warning(
            "%s is not the published mobile_sam.pt; its input is taken to be %d pixels, as of that",
            files.ref,
            _INPUT,
        )
    with reading_shapes(files.place, "MobileSAM"):
        config = mobile_sam_config(state)
    model = build_sam(config, rename_mobile_sam(state), source=files.place)
    return SamSegmenter(
        model, PillowProcessor(_INPUT), name=files.ref, device=device, precision=precision, weights=info
    )


def mobile_sam_config(state: Mapping[str, Tensor], *, image_size: int = _INPUT) -> dict[str, Any]:
    """A `TowerSamConfig`, as a mapping, for the tensors of an original checkpoint.

    Raises:
        KeyError, IndexError, ValueError: a tensor that is needed is not there, or has an impossible shape.
    """
    from lexiseg.models.segmenters.sam_checkpoint import prompt_and_decoder_config
    from lexiseg.models.segmenters.sam_tiny_vit import MOBILE_SAM_TOWER

    channels = int(state["image_encoder.neck.0.weight"].shape[0])
    features = int(state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1])
    others = prompt_and_decoder_config(state, channels=channels, image_size=image_size, patch_size=_STRIDE)
    others["mask_decoder_config"]["layer_norm_eps"] = 1e-5  # as published; transformers' default is another
    return {
        "model_type": "sam_tower",
        "vision_config": {
            "image_tower": MOBILE_SAM_TOWER,
            "image_size": image_size,
            "patch_size": _STRIDE,
            "output_channels": channels,
            "num_pos_feats": features,
            "hidden_size": 8,
            "num_hidden_layers": 0,
        },
        **others,
    }


def rename_mobile_sam(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original checkpoint under the names of a `TowerSam`; the idle classifier is left out.

    timm counts the step between two stages to the later one, MobileSAM to the earlier.
    """
    from lexiseg.models.segmenters.sam_checkpoint import rename

    eyes, rest = {}, {}
    for key, tensor in state.items():
        if key.startswith(_IDLE):
            continue
        if not key.startswith("image_encoder."):
            rest[key] = tensor
            continue
        name = _DOWNSAMPLE.sub(lambda match: f"image_encoder.stages.{int(match[1]) + 1}.downsample.", key)
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        eyes[_PREFIX + name.removeprefix("image_encoder.")] = tensor
    return {**eyes, **rename(rest)}

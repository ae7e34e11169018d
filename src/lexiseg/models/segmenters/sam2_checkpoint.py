"""Original SAM 2 and 2.1 checkpoints (sam2.1_hiera_tiny.pt and its kin) as transformers' Sam2VideoModel."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import BrokenWeights

logger = logging.getLogger(__name__)

MARK = "image_encoder.trunk.pos_embed"
_POINTS = "sam_prompt_encoder.point_embeddings."
_FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_INPUT, _MEDSAM2_INPUT = 1024, 512
# What no shape tells, of the four sizes that were published: by the width and number of blocks.
_SIZES: dict[tuple[int, int], tuple[list[int], list[int], list[int]]] = {
    (96, 12): ([1, 2, 7, 2], [8, 4, 14, 7], [5, 7, 9]),
    (96, 16): ([1, 2, 11, 2], [8, 4, 14, 7], [7, 10, 13]),
    (112, 24): ([2, 3, 16, 3], [8, 4, 14, 7], [12, 16, 20]),
    (144, 48): ([2, 6, 36, 4], [8, 4, 16, 8], [23, 33, 43]),
}
_HEADS = {96: 1, 112: 2, 144: 2}
# Applied in order, each wherever it matches.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.backbone.patch_embed.projection."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
        (r"^sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
        (r"^sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.fuser\.layers\.(\d)\.gamma$", r"memory_encoder.memory_fuser.layers.\1.scale"),
        (r"^memory_encoder\.fuser\.layers\.(\d)\.dwconv\.", r"memory_encoder.memory_fuser.layers.\1.depthwise_conv."),
        (
            r"^memory_encoder\.fuser\.layers\.(\d)\.pwconv(\d)\.",
            r"memory_encoder.memory_fuser.layers.\1.pointwise_conv\2.",
        ),
        (r"^memory_encoder\.fuser\.layers\.(\d)\.norm\.", r"memory_encoder.memory_fuser.layers.\1.layer_norm."),
        (r"^memory_attention\.norm\.", "memory_attention.layer_norm."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"(attn[a-z_]*)\.out_proj\.", r"\1.o_proj."),
    )
)
_MLP = re.compile(r"^(.*(?:\.mlp|mlps\.\d+|_head|obj_ptr_proj))\.layers\.(\d+)\.(\w+)$")
_MASK_DOWN = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(\w+)$")


def sam2_config(state: Mapping[str, Tensor], *, image_size: int = _INPUT) -> dict[str, Any]:
    """A `Sam2VideoConfig`, as a mapping, that the shapes of an original checkpoint tell.

    Raises:
        KeyError, ValueError: a tensor that is needed is not there, or the size is none that was published.
    """
    width = int(state["image_encoder.trunk.patch_embed.proj.weight"].shape[0])
    blocks = {int(found[1]) for key in state if (found := re.match(r"image_encoder\.trunk\.blocks\.(\d+)\.", key))}
    if (width, len(blocks)) not in _SIZES:
        raise ValueError(f"an image encoder of {len(blocks)} blocks, {width} wide at first")
    stages, windows, whole = _SIZES[width, len(blocks)]
    widths = [width << stage for stage in range(4)]
    grid = image_size // 16
    temporal = "obj_ptr_tpos_proj.weight" in state
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": width,
                "num_attention_heads": _HEADS[width],
                "image_size": [image_size, image_size],
                "blocks_per_stage": stages,
                "embed_dim_per_stage": widths,
                "num_attention_heads_per_stage": [_HEADS[width] << stage for stage in range(4)],
                "window_size_per_stage": windows,
                "global_attention_blocks": whole,
                "window_positional_embedding_background_size": list(state[MARK].shape[-2:]),
            },
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        },
        "prompt_encoder_config": {"image_size": image_size},
        "mask_decoder_config": {},
        "image_size": image_size,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "enable_temporal_pos_encoding_for_object_pointers": temporal,
        "enable_occlusion_spatial_embedding": "no_obj_embed_spatial" in state,
    }


def input_of(name: str) -> int:
    """The side of the input that a file's name speaks of; the file itself does not say it, so a log line does."""
    size = _MEDSAM2_INPUT if "medsam2" in name.lower().replace("-", "").replace("_", "") else _INPUT
    logger.warning(
        "%s does not say which input it was trained for; by its name taken to be %d pixels (MedSAM2: %d, SAM 2: %d)",
        name, size, _MEDSAM2_INPUT, _INPUT,
    )  # fmt: skip
    return size


def rename_sam2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original checkpoint under transformers' names; unknown names go through as they are.

    Raises:
        BrokenWeights: some of the four embeddings of points are missing.
    """
    last: dict[str, int] = {}
    for key in state:
        if found := _MLP.match(key):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == _FREQUENCIES:
            renamed["shared_image_embedding.positional_embedding"] = tensor
            renamed["prompt_encoder.shared_embedding.positional_embedding"] = tensor
        elif not key.startswith(_POINTS):
            renamed[_rename(key, last)] = tensor
    points = [state.get(f"{_POINTS}{k}.weight") for k in range(4)]
    found_points = [each for each in points if each is not None]
    if len(found_points) != len(points):
        raise BrokenWeights(f"a SAM 2 checkpoint has 4 tensors {_POINTS}N.weight; got {len(found_points)}")
    renamed["prompt_encoder.point_embed.weight"] = torch.cat(found_points)
    return renamed


def _rename(key: str, last: Mapping[str, int]) -> str:
    if found := _MLP.match(key):
        stem, index, leaf = found[1], int(found[2]), found[3]
        inner = "proj_in" if index == 0 else "proj_out" if index == last[stem] else f"layers.{index - 1}"
        key = f"{stem}.{inner}.{leaf}"
    if found := _MASK_DOWN.match(key):
        layer, part = divmod(int(found[1]), 3)
        inner = "final_conv" if layer == 4 else f"layers.{layer}.{('conv', 'layer_norm')[part]}"
        return f"memory_encoder.mask_downsampler.{inner}.{found[2]}"
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key

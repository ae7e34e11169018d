"""Small models of SAM 2's kin and of SAM-HQ with random weights, in the layouts that transformers writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from checkpoints import _SAM, randomise
from torch import Tensor

_PROMPTS = {"hidden_size": 128, "image_size": 128, "patch_size": 16}
_DECODER = {"hidden_size": 128, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
_FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_SIZES = [[32, 32], [16, 16], [8, 8]]
_HIERA = {
    "hidden_size": 16, "num_attention_heads": 1, "image_size": [128, 128], "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 6, 4], "global_attention_blocks": [3],
}  # fmt: skip
_MEMORY = {
    "image_size": 128, "memory_attention_hidden_size": 128, "memory_attention_feed_forward_hidden_size": 64,
    "memory_attention_num_layers": 2, "memory_attention_rope_feat_sizes": [8, 8], "memory_encoder_hidden_size": 128,
    "memory_encoder_output_channels": 64, "mask_downsampler_embed_dim": 128, "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 64,
}  # fmt: skip
_SAM2_VISION = {
    "backbone_config": {"model_type": "sam2_hiera_det_model", **_HIERA},
    "backbone_channel_list": [128, 64, 32, 16], "backbone_feature_sizes": _SIZES, "fpn_hidden_size": 128,
}  # fmt: skip
_EDGE_VISION = {
    "backbone_config": {
        "model_type": "timm_wrapper", "architecture": "repvit_m1", "num_classes": 1000,
        "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    },
    "backbone_feature_sizes": _SIZES, "fpn_hidden_size": 128,
}  # fmt: skip
_SAM3_VISION = {
    "backbone_config": {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 112, "patch_size": 14, "window_size": 4, "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    },
    "backbone_feature_sizes": _SIZES, "fpn_hidden_size": 128,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "Sam2": {"vision_config": {"model_type": "sam2_vision_model", **_SAM2_VISION}},
    "Sam2Video": {"vision_config": {"model_type": "sam2_vision_model", **_SAM2_VISION}, **_MEMORY},
    "EdgeTam": {"vision_config": {"model_type": "edgetam_vision_model", **_EDGE_VISION}},
    "Sam3Tracker": {"vision_config": {"model_type": "sam3_vision_model", **_SAM3_VISION}},
}


def make_model(kind: str, *, seed: int = 0) -> Any:
    """transformers' model of a kind of `CONFIGS`, or "SamHQ"; in evaluation mode."""
    torch.manual_seed(seed)
    config: dict[str, Any]
    if kind == "SamHQ":
        config = {name: dict(part) for name, part in _SAM["tiny"].items()}
        config["mask_decoder_config"]["vit_dim"] = config["vision_config"]["hidden_size"]
    else:
        prompts = {**_PROMPTS, "image_size": 112, "patch_size": 14} if kind == "Sam3Tracker" else _PROMPTS
        config = {"prompt_encoder_config": dict(prompts), "mask_decoder_config": dict(_DECODER), **CONFIGS[kind]}
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config)).eval()
    randomise(model, seed)
    if kind != "SamHQ":
        # Sure that its target is there: of an absent one a memory draws nothing, which compares with anything.
        model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(10)
    return model


def make_folder(path: Path, kind: str, *, seed: int = 0) -> Path:
    """A folder as transformers saves the model."""
    make_model(kind, seed=seed).save_pretrained(path)
    return path


def original_sam2_name(key: str) -> str:
    """transformers' name of a SAM 2 tensor -> the original release's; the embeddings of points stay one."""
    key = re.sub(r"^memory_encoder\.mask_downsampler\.layers\.(\d)\.conv\.",
                 lambda m: f"memory_encoder.mask_downsampler.encoder.{3 * int(m[1])}.", key)  # fmt: skip
    key = re.sub(r"^memory_encoder\.mask_downsampler\.layers\.(\d)\.layer_norm\.",
                 lambda m: f"memory_encoder.mask_downsampler.encoder.{3 * int(m[1]) + 1}.", key)  # fmt: skip
    two = ".mlp." in key
    for ours, theirs in (
        (".layers.0.", ".layers.1.") if re.search(r"mlps|_head|object_pointer", key) else ("", ""),
        (".proj_in.", ".layers.0."),
        (".proj_out.", ".layers.1." if two else ".layers.2."),
        ("mask_downsampler.final_conv.", "mask_downsampler.encoder.12."),
        ("vision_encoder.backbone.patch_embed.projection.", "image_encoder.trunk.patch_embed.proj."),
        ("vision_encoder.backbone.", "image_encoder.trunk."),
        ("shared_image_embedding.positional_embedding", _FREQUENCIES),
        ("prompt_encoder.mask_embed.conv1.", "sam_prompt_encoder.mask_downscaling.0."),
        ("prompt_encoder.mask_embed.layer_norm1.", "sam_prompt_encoder.mask_downscaling.1."),
        ("prompt_encoder.mask_embed.conv2.", "sam_prompt_encoder.mask_downscaling.3."),
        ("prompt_encoder.mask_embed.layer_norm2.", "sam_prompt_encoder.mask_downscaling.4."),
        ("prompt_encoder.mask_embed.conv3.", "sam_prompt_encoder.mask_downscaling.6."),
        ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
        ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
        ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
        ("object_pointer_proj.", "obj_ptr_proj."),
        ("temporal_positional_encoding_projection_layer.", "obj_ptr_tpos_proj."),
        ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
        ("no_memory_embedding", "no_mem_embed"),
        ("no_memory_positional_encoding", "no_mem_pos_enc"),
        ("no_object_pointer", "no_obj_ptr"),
        ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
        ("memory_encoder.feature_projection.", "memory_encoder.pix_feat_proj."),
        ("memory_encoder.projection.", "memory_encoder.out_proj."),
        ("memory_encoder.memory_fuser.", "memory_encoder.fuser."),
        (".scale", ".gamma"), (".depthwise_conv.", ".dwconv."), (".pointwise_conv", ".pwconv"),
        (".o_proj.", ".out_proj."), ("layer_norm", "norm"),
    ):  # fmt: skip
        key = key.replace(ours, theirs) if ours else key
    key = re.sub(r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv.", key)
    return re.sub(r"^(prompt_encoder|mask_decoder)\.", r"sam_\1.", key)


def original_sam2_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Sam2VideoModel's tensors as an original checkpoint holds them."""
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == "prompt_encoder.shared_embedding.positional_embedding":
            continue
        if key == "prompt_encoder.point_embed.weight":
            found |= {f"sam_prompt_encoder.point_embeddings.{k}.weight": tensor[k : k + 1].clone() for k in range(4)}
        else:
            found[original_sam2_name(key)] = tensor
    return found

"""Original SAM checkpoints (sam_vit_b_01ec64.pth and its kin) as transformers SamModels.

Both layouts hold the same tensors under other names; the configuration is read off the shapes, so that any
size of the family loads, not only the three that were published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import BrokenWeights
from lexiseg.models.families import one_line
from lexiseg.models.segmenters.sam_folder import build_sam, default_processor

_DECODER_HEADS = 8  # the one number that no shape tells; all published checkpoints have it
# Applied in order, each wherever it matches.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
        (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
        (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
        (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
        (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
        (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
        (r"^image_encoder\.", "vision_encoder."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (
            r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
            "shared_image_embedding.positional_embedding",
        ),
        (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
        (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
        (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
        (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
        (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
        (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
        (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
        (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
        (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    )
)
_HEAD = re.compile(r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.(\d+)\.(\w+)$")


def load_sam_checkpoint(path: Path) -> tuple[Any, Any]:
    """Load an original checkpoint, tensors only (`weights_only`): no code in the file is run.

    Returns:
        A transformers SamModel in float32, and the SamImageProcessor that fits its input.

    Raises:
        BrokenWeights: the file is truncated, holds more than tensors, or is no SAM checkpoint.
    """
    state = read_checkpoint(path)
    if "image_encoder.pos_embed" not in state:
        raise BrokenWeights(f"{path} is not an original SAM checkpoint: it has no tensor image_encoder.pos_embed")
    with reading_shapes(path, "SAM"):
        config = infer_config(state)
    model = build_sam(config, rename(state), source=path)
    return model, default_processor(config["vision_config"]["image_size"])


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch's own format, or of its part `model`; no code in the file is run.

    Raises:
        BrokenWeights: the file is truncated, or holds more than tensors.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BrokenWeights(f"{path} is not a checkpoint of tensors: {one_line(error)}") from error
    state = stored.get("model", stored) if isinstance(stored, dict) else {}
    odd = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None or not state:
        found = f"{odd!r} is a {type(state[odd]).__name__}" if odd is not None else "there is none"
        raise BrokenWeights(f"{path} is not a checkpoint of tensors: {found}")
    return dict(state)


@contextmanager
def reading_shapes(path: Path, family: str) -> Iterator[None]:
    """A context in which shapes that tell no configuration are an error that names the file.

    Raises:
        BrokenWeights: a tensor that is needed is not there, or has an impossible shape.
    """
    try:
        yield
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise BrokenWeights(f"{path} is not a whole {family} checkpoint: missing or odd tensor {error}") from error


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an original checkpoint under transformers' names; unknown names go through as they
    are.
    """
    heads: dict[str, int] = {}
    for key in state:
        if match := _HEAD.match(key):
            heads[match[1]] = max(heads.get(match[1], 0), int(match[2]))
    return {_rename(key, heads): tensor for key, tensor in state.items()}


def _rename(key: str, last_layer: Mapping[str, int]) -> str:
    if match := _HEAD.match(key):
        stem, index, leaf = match[1], int(match[2]), match[3]
        if index == 0:
            return f"{stem}.proj_in.{leaf}"
        inner = "proj_out" if index == last_layer[stem] else f"layers.{index - 1}"
        return f"{stem}.{inner}.{leaf}"
    for pattern, replacement in _RENAMES:
        key = pattern.sub(replacement, key)
    return key


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The SamConfig, as a mapping, that the shapes of an original checkpoint tell.

    Raises:
        KeyError, IndexError, ValueError: a tensor that is needed is not there, or has an impossible shape.
    """
    _, grid, _, width = state["image_encoder.pos_embed"].shape
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    # A relative position table has 2 n - 1 rows for n tokens along a side, and one column per head channel.
    rows = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
    sides = [(shape[0] + 1) // 2 for shape in rows]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1:
        raise ValueError(f"attn.rel_pos_h (windows of {sorted(windows)} tokens)")
    channels = int(state["image_encoder.neck.0.weight"].shape[0])
    image_size = int(grid * patch)
    return {
        "vision_config": {
            "hidden_size": int(width),
            "output_channels": channels,
            "num_hidden_layers": depth,
            "num_attention_heads": int(width // rows[0][1]),
            "image_size": image_size,
            "patch_size": int(patch),
            "mlp_dim": int(state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]),
            "window_size": int(windows.pop()) if windows else 0,
            "global_attn_indexes": [i for i, side in enumerate(sides) if side == grid],
            "num_pos_feats": int(state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1]),
        },
        **prompt_and_decoder_config(state, channels=channels, image_size=image_size, patch_size=int(patch)),
    }


def prompt_and_decoder_config(
    state: Mapping[str, Tensor], *, channels: int, image_size: int, patch_size: int
) -> dict[str, Any]:
    """`prompt_encoder_config` and `mask_decoder_config` that the shapes tell; raises as `infer_config`."""
    cross = state["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape
    head = "mask_decoder.iou_prediction_head.layers"
    return {
        "prompt_encoder_config": {
            "hidden_size": channels,
            "image_size": image_size,
            "patch_size": patch_size,
            "image_embedding_size": image_size // patch_size,
            "mask_input_channels": int(state["prompt_encoder.mask_downscaling.3.weight"].shape[0]),
            "num_point_embeddings": _count(state, r"prompt_encoder\.point_embeddings\.(\d+)\."),
        },
        "mask_decoder_config": {
            "hidden_size": channels,
            "mlp_dim": int(state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]),
            "num_hidden_layers": _count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
            "num_attention_heads": _DECODER_HEADS,
            "attention_downsample_rate": int(cross[1] // cross[0]),
            "num_multimask_outputs": int(state["mask_decoder.mask_tokens.weight"].shape[0]) - 1,
            "iou_head_depth": _count(state, re.escape(head) + r"\.(\d+)\."),
            "iou_head_hidden_dim": int(state[f"{head}.0.weight"].shape[0]),
        },
    }


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    if not found or found != set(range(len(found))):
        raise KeyError(pattern.replace("\\", "").replace("(d+)", "N"))
    return len(found)

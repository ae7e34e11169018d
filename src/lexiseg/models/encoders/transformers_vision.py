"""Image towers of transformers' CLIP, SigLIP and SigLIP 2 as timm ViTs with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isqrt
from typing import Any, cast

import torch
from timm.layers import AttentionPoolLatent, GELUTanh, QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lexiseg.errors import BrokenWeights

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": GELUTanh,
}


class Visual(nn.Module):
    """A timm ViT and a projection, with open_clip's interface for image towers.

    Args:
        trunk: the ViT.
        head: pooled features to the embedding.
        size: side S of the square input, in pixels.
        mean: of the training images, three channels in [0, 1].
        std: their deviation.
    """

    def __init__(
        self, trunk: VisionTransformer, head: nn.Module, *, size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.preprocess_cfg = {"size": size, "mean": tuple(mean), "std": tuple(std)}

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E)."""
        return cast(Tensor, self.head(self.trunk(pixels)))


def make_visual(model: Any, *, mean: Sequence[float], std: Sequence[float]) -> Visual:
    """The image tower of a CLIPModel, SiglipModel or Siglip2Model.

    SigLIP 2 with native resolution is built for its own grid of positions, on which nothing is interpolated.

    Raises:
        BrokenWeights: an activation that no published model has.
    """
    config, state = model.config.vision_config, model.vision_model.state_dict()
    pools_class_token = "embeddings.class_embedding" in state
    patch = int(config.patch_size)
    grid = isqrt(int(config.num_patches)) if hasattr(config, "num_patches") else int(config.image_size) // patch
    if config.hidden_act not in _ACTIVATIONS:
        raise BrokenWeights(f"hidden_act is {config.hidden_act!r}; expected one of {', '.join(_ACTIVATIONS)}")
    activation = _ACTIVATIONS[config.hidden_act]
    norm = partial(nn.LayerNorm, eps=float(config.layer_norm_eps))
    trunk = VisionTransformer(
        img_size=patch * grid,
        patch_size=patch,
        num_classes=0,
        global_pool="token" if pools_class_token else "map",
        embed_dim=int(config.hidden_size),
        depth=int(config.num_hidden_layers),
        num_heads=int(config.num_attention_heads),
        mlp_ratio=int(config.intermediate_size) / int(config.hidden_size),
        class_token=pools_class_token,
        pre_norm=pools_class_token,
        norm_layer=norm,
        act_layer=activation,
    )
    if not pools_class_token:
        trunk.attn_pool = AttentionPoolLatent(
            int(config.hidden_size),
            num_heads=int(config.num_attention_heads),
            mlp_ratio=int(config.intermediate_size) / int(config.hidden_size),
            norm_layer=norm,
            act_layer=activation,
        )
    trunk.load_state_dict(_timm_state(state, patch), strict=True)
    head: nn.Module = nn.Identity()
    if pools_class_token:
        head = nn.Linear(int(config.hidden_size), int(model.config.projection_dim), bias=False)
        head.load_state_dict(model.visual_projection.state_dict())
    return Visual(trunk, head, size=patch * grid, mean=mean, std=std)


_NAMES = (
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("pre_layrnorm.", "norm_pre."),
    ("post_layernorm.", "norm."),
    ("encoder.layers.", "blocks."),
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    (".self_attn.out_proj.", ".attn.proj."),
    ("head.attention.out_proj.", "attn_pool.proj."),
    ("head.layernorm.", "attn_pool.norm."),
    ("head.mlp.", "attn_pool.mlp."),
)


def _timm_state(state: dict[str, Tensor], patch: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key == "embeddings.class_embedding":
            found["cls_token"] = tensor.reshape(1, 1, -1)
        elif key == "embeddings.position_embedding.weight":
            found["pos_embed"] = tensor[None]
        elif key == "embeddings.patch_embedding.weight" and tensor.ndim == 2:
            # SigLIP 2 with native resolution takes patches as rows: by row, column, then colour.
            found["patch_embed.proj.weight"] = tensor.reshape(-1, patch, patch, 3).permute(0, 3, 1, 2).contiguous()
        elif ".self_attn.q_proj." in key:
            parts = [state[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            block = key.replace("encoder.layers.", "blocks.")
            found[block.replace(".self_attn.q_proj.", ".attn.qkv.")] = torch.cat(parts)
        elif key == "head.probe":
            found["attn_pool.latent"] = tensor
        elif key.startswith("head.attention.in_proj_"):
            leaf, width = key.rpartition("_")[2], tensor.shape[0] // 3
            found[f"attn_pool.q.{leaf}"], found[f"attn_pool.kv.{leaf}"] = tensor[:width], tensor[width:]
        elif ".self_attn.k_proj." not in key and ".self_attn.v_proj." not in key and not key.endswith("position_ids"):
            found[_timm_name(key)] = tensor
    return found


def _timm_name(key: str) -> str:
    for theirs, ours in _NAMES:
        key = key.replace(theirs, ours)
    return key

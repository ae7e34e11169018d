"""One embedding for each position, where a tower's pooling lets a position be projected on its own; and of the whole
image, where that is less work than the tower does.

- Convolutional towers that average their positions: what follows the average (norm, projection) is applied to
  each position as if it were the whole map.  Where nothing but linear layers follow, the mean over positions
  of this field is the image's embedding exactly.
- CLIP's ResNet: the attention pool's value and output projections, without attention (Zhou et al., "Extract
  Free Dense Labels from CLIP", ECCV 2022, there MaskCLIP).
- ViTs that pool the class token: the last block with each token attending to itself alone (the value path of
  the same paper; residual and MLP kept), then the tower's final norm and projection.
- ViTs that average their tokens: final norm and projection on each token.
- ViTs that pool by one learnt query (SigLIP): the pool shown each token alone, so that it attends to that one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.layers import AttentionPoolLatent, Mlp
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.encoders.open_clip_attention import watch, watch_regions
from lexiseg.models.encoders.open_clip_layers import as_map, hooked
from lexiseg.models.fpn import EnsembleTower, FPNTower


def dense_features(tower: Any, pixels: Tensor) -> Tensor:
    """Unnormalised features of every position.

    Args:
        tower: `model.visual` of an open_clip model.
        pixels: (B, 3, S, S), already normalised with the model's mean and deviation.

    Returns:
        (B, E, h, w).

    Raises:
        UnsupportedByModel: the tower's pooling (attention over all positions with its own queries, class
            attention, ...) does not let a position be projected on its own.
    """
    if hasattr(tower, "trunk"):
        return _timm_dense(tower, pixels)
    if hasattr(tower, "attnpool"):
        return _attention_pool_dense(tower, pixels)
    if hasattr(tower, "transformer"):
        return _clip_vit_dense(tower, pixels)
    raise _unsupported(tower)


def dense_and_whole_features(tower: Any, pixels: Tensor, whole: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Unnormalised features of every position and of the whole image, from one forward where that suffices.

    Args:
        tower: as `dense_features` takes it, and raising what it raises.
        pixels: (B, 3, S, S), already normalised.
        whole: pixels to the image's features (B, E), asked where positions and image go different ways.

    Returns:
        (B, E, h, w) and (B, E).
    """
    if not hasattr(tower, "trunk") or _is_timm_vit(tower.trunk):
        return dense_features(tower, pixels), whole(pixels)
    _refuse_attention_pools(tower)
    maps = _maps(tower.trunk, pixels)
    return _project_positions(tower, maps), tower.head(tower.trunk.forward_head(maps))


def is_plain_vit(tower: Any) -> bool:
    """Whether an image tower is timm's own ViT, of blocks with nothing but attention and two linear layers."""
    trunk: Any = getattr(tower, "trunk", None)
    return type(trunk) is VisionTransformer and all(
        type(block) is Block and type(block.attn) is Attention and type(block.mlp) is Mlp for block in trunk.blocks
    )


def class_token_features(tower: Any, pixels: Tensor) -> Tensor | None:
    """Unnormalised features (B, E) of whole images by a plain ViT, as `tower(pixels)` gives them, with less work.

    Of what the last block makes of the tokens the class token alone is looked at, so that it alone is asked of it: a
    sixteenth of a ViT-B less.

    Args:
        tower: see `is_plain_vit`.
        pixels: (B, 3, S, S), already normalised.

    Returns:
        None where the tower pools otherwise.
    """
    trunk = tower.trunk
    if trunk.global_pool != "token" or getattr(trunk, "attn_pool", None) is not None:
        return None
    tokens = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(pixels))))
    for block in trunk.blocks[:-1]:
        tokens = block(tokens)
    return cast(Tensor, tower.head(trunk.forward_head(trunk.norm(_first_token(trunk.blocks[-1], tokens)))))


def _first_token(block: Any, tokens: Tensor) -> Tensor:
    """What a ViT's block in evaluation makes of the first token, (B, 1, C)."""
    attention, seen = block.attn, block.norm1(tokens)
    split = attention.qkv(seen).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, keys, values = split[0, :, :, :1], split[1], split[2]
    found = scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(keys), values)
    found = found.transpose(1, 2).flatten(2)
    norm, gate = getattr(attention, "norm", None), getattr(attention, "gate", None)
    found = found if norm is None else norm(found)
    found = found if gate is None else found * gate(seen[:, :1]).sigmoid()
    first = tokens[:, :1] + block.ls1(attention.proj(found))
    return cast(Tensor, first + block.ls2(block.mlp(block.norm2(first))))


def attention_features(tower: Any, pixels: Tensor, attention: str) -> tuple[Tensor, Tensor]:
    """Unnormalised features of every position by another attention, and of the whole image, from one forward.

    Args:
        tower: a ViT, as `dense_features` takes it.
        pixels: (B, 3, S, S), already normalised.
        attention: one of `ATTENTIONS`; see `open_clip_attention`.

    Returns:
        (B, E, h, w) and (B, E).

    Raises:
        UnsupportedByModel: the tower is no ViT, or pools in a way that no position can be projected on its own.
    """
    trunk = getattr(tower, "trunk", None)
    if trunk is None and hasattr(tower, "transformer"):
        if tower.attn_pool is not None or tower.pool_type == "none":
            raise _unsupported(tower)
        with watch(tower.transformer.resblocks, attention, prefix=1) as found:
            whole = tower(pixels)
        tokens = tower.ln_post(found[-1][:, 1:])
        dense = as_map(tokens if tower.proj is None else tokens @ tower.proj)
    elif trunk is not None and _is_timm_vit(trunk):
        if not _attends_with_one_query(trunk):
            _refuse_attention_pools(tower)
        with watch(trunk.blocks, attention, prefix=trunk.num_prefix_tokens) as found:
            whole = tower.head(trunk.forward_head(trunk.forward_features(pixels)))
        dense = _project_tokens(tower, trunk.norm(found[-1]))
    else:
        raise UnsupportedByModel(
            f"attention {attention!r} needs a ViT; {type(trunk or tower).__name__} is none; use attention=value"
        )
    return dense, whole[0] if isinstance(whole, tuple) else whole


def region_features(tower: Any, pixels: Tensor, masks: Tensor) -> Tensor:
    """Unnormalised features of regions, each by a class token that attends to its own positions, from one forward.

    Args:
        tower: a ViT that pools its class token.
        pixels: (1, 3, S, S), already normalised.
        masks: (R, S, S) in [0, 1], none of them empty.

    Returns:
        (R, E).

    Raises:
        UnsupportedByModel: the tower is no ViT, or pools otherwise.
    """
    trunk = getattr(tower, "trunk", None)
    if trunk is None and hasattr(tower, "transformer"):
        if tower.attn_pool is not None or tower.pool_type != "tok":
            raise _no_class_token(tower)
        with watch_regions(tower.transformer.resblocks, _shares(masks, tower.grid_size), prefix=1) as found:
            tower(pixels)
        tokens = tower.ln_post(found[-1][0])
        return cast(Tensor, tokens if tower.proj is None else tokens @ tower.proj)
    if trunk is None or not _is_timm_vit(trunk) or trunk.global_pool != "token":
        raise _no_class_token(trunk if trunk is not None else tower)
    shares = _shares(masks, trunk.patch_embed.grid_size)
    with watch_regions(trunk.blocks, shares, prefix=trunk.num_prefix_tokens) as found:
        trunk.forward_features(pixels)
    return cast(Tensor, tower.head(trunk.head(trunk.fc_norm(trunk.norm(found[-1][0])))))


def _shares(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(masks[:, None], grid).flatten(1)


def _no_class_token(module: nn.Module) -> UnsupportedByModel:
    return UnsupportedByModel(
        f"no masked attention in {type(module).__name__}: expected a ViT that pools its class token; "
        "use crops.seen=pooled"
    )


def _project_tokens(tower: Any, tokens: Tensor) -> Tensor:
    """A timm ViT's tokens (B, p + h w, C) after its final norm, each projected on its own, (B, E, h, w)."""
    trunk = tower.trunk
    tokens = tokens[:, trunk.num_prefix_tokens :]
    batch, length, width = tokens.shape
    if _attends_with_one_query(trunk):
        tokens = trunk.attn_pool(tokens.reshape(-1, 1, width)).reshape(batch, length, -1)
    return as_map(tower.head(trunk.head(trunk.fc_norm(tokens))))


def _unsupported(module: nn.Module) -> UnsupportedByModel:
    return UnsupportedByModel(
        f"no dense features from {type(module).__name__}: its pooling does not let a position be projected"
        " on its own; use a gradient-based saliency (gscorecam, gradcam)"
    )


def _attention_pool_dense(tower: Any, pixels: Tensor) -> Tensor:
    maps = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels)))))
    pool = tower.attnpool
    tokens = maps.flatten(2).transpose(1, 2) + pool.positional_embedding[1:].to(maps.dtype)
    return as_map(pool.c_proj(pool.v_proj(tokens)))


def _clip_vit_dense(tower: Any, pixels: Tensor) -> Tensor:
    if tower.attn_pool is not None or tower.pool_type == "none":
        raise _unsupported(tower)
    tokens = tower._embeds(pixels)
    *body, last = tower.transformer.resblocks
    for block in body:
        tokens = block(tokens)
    if tower.pool_type == "tok":
        if not isinstance(last.attn, nn.MultiheadAttention):
            raise _unsupported(tower)
        width = tokens.shape[-1]
        attention = last.attn
        value = nn.functional.linear(
            last.ln_1(tokens), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
        )
        tokens = tokens + last.ls_1(attention.out_proj(value))
        tokens = tokens + last.ls_2(last.mlp(last.ln_2(tokens)))
    else:
        tokens = last(tokens)
    tokens = tower.ln_post(tokens[:, 1:])
    return as_map(tokens if tower.proj is None else tokens @ tower.proj)


def _timm_dense(tower: Any, pixels: Tensor) -> Tensor:
    if _attends_with_one_query(tower.trunk):
        return _project_tokens(tower, tower.trunk.forward_features(pixels))
    _refuse_attention_pools(tower)
    if _is_timm_vit(tower.trunk):
        return _timm_vit_dense(tower, pixels)
    return _project_positions(tower, _maps(tower.trunk, pixels))


def _attends_with_one_query(trunk: Any) -> bool:
    pool = getattr(trunk, "attn_pool", None)
    return _is_timm_vit(trunk) and isinstance(pool, AttentionPoolLatent) and pool.latent_len == 1


def _refuse_attention_pools(tower: Any) -> None:
    if isinstance(tower.trunk, FPNTower | EnsembleTower):
        return  # theirs is a mean; and looking through their hundreds of modules takes longer than projecting
    # timm's attention pools and open_clip's own ("abs_attn", "rot_attn") mix positions with learnt queries.
    if any("AttentionPool" in type(m).__name__ or "ClassAttn" in type(m).__name__ for m in tower.modules()):
        raise _unsupported(tower.trunk)


def _is_timm_vit(trunk: Any) -> bool:
    return hasattr(trunk, "blocks") and hasattr(trunk, "fc_norm")


def _maps(trunk: Any, pixels: Tensor) -> Tensor:
    """What a convolutional trunk pools, in its own order of axes."""
    maps = cast(Tensor, trunk.forward_features(pixels))
    if maps.ndim != 4:
        raise _unsupported(trunk)
    return maps


def _project_positions(tower: Any, maps: Tensor) -> Tensor:
    """Each position as a map of its own, one position large: whatever head follows sees a pooled map."""
    channels_last = getattr(tower.trunk, "output_fmt", "") == "NHWC"
    if not channels_last:
        maps = maps.permute(0, 2, 3, 1)
    batch, height, width, channels = maps.shape
    single = maps.reshape(-1, 1, 1, channels) if channels_last else maps.reshape(-1, channels, 1, 1)
    projected = tower.head(tower.trunk.forward_head(single))
    return cast(Tensor, projected).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _timm_vit_dense(tower: Any, pixels: Tensor) -> Tensor:
    trunk = tower.trunk
    if trunk.global_pool == "token":
        tokens = _value_path(trunk, pixels)
    elif trunk.global_pool in ("avg", "avgmax", "max"):
        tokens = trunk.forward_features(pixels)
    else:
        raise _unsupported(trunk)
    return _project_tokens(tower, tokens)


def _value_path(trunk: Any, pixels: Tensor) -> Tensor:
    """A timm ViT's tokens with the last block's attention replaced by the identity, after the final norm."""
    last = trunk.blocks[-1]
    attention = last.attn
    fused = hasattr(attention, "qkv") and hasattr(attention, "proj")
    if not fused or getattr(attention, "gate", None) is not None or not hasattr(last, "norm2"):
        raise _unsupported(trunk)

    def value(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        projected = attention.qkv(inputs[0])
        mixed = projected[..., 2 * projected.shape[-1] // 3 :]
        norm = getattr(attention, "norm", None)
        return cast(Tensor, attention.proj(mixed if norm is None else norm(mixed)))

    with hooked(attention, value):
        return cast(Tensor, trunk.forward_features(pixels))


def unit(features: Tensor) -> Tensor:
    """Features of unit length over axis 1, float32."""
    return torch.nn.functional.normalize(features.float(), dim=1)

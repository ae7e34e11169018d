r"""Dense features of a ViT by another attention in its last blocks, without training and in one forward.

With :math:`q, k, v` of the last block's tokens (a head each, scale :math:`s`) and :math:`W` its output projection:

- ``sclip`` (Wang et al., ECCV 2024): :math:`\mathrm{softmax}(s\,qq^\top) + \mathrm{softmax}(s\,kk^\top)` on
  :math:`v`, the block's residual and MLP kept.
- ``clearclip`` (Lan et al., ECCV 2024): :math:`W\,\mathrm{softmax}(s\,qq^\top)\,v` alone, no residual, no MLP.
- ``naclip`` (Hajimiri et al., WACV 2025): :math:`W\,\mathrm{softmax}(s\,kk^\top + \omega)\,v` alone, with
  :math:`\omega_{ij} = \exp(-d_{ij}^2 / 2\sigma^2)` of the distance between positions, :math:`\sigma = 5`.
- ``gem`` (Bousselham et al., CVPR 2024): over the last 7 of 12 blocks (of another depth, as large a share), the sum of
  self-self attentions :math:`\frac{1}{3} \sum_{p \in \{q, k, v\}} \mathrm{softmax}(\tau\,\hat p \hat p^\top)\,v` of
  normalised :math:`\hat p`, smoothed once by their own attention, beside the tokens that the tower itself makes.

Tokens then take the tower's final norm and projection, each on its own.

Regions have a class token each, from the first block to the last (Ding et al., "Open-vocabulary universal image
segmentation with MaskCLIP", ICML 2023): it attends to itself and to the positions of its region,
:math:`\mathrm{softmax}(s\,qk^\top + \log w)\,v` with :math:`w` the share of a position that the region covers, and no
other token attends to it. A position that the region leaves out has :math:`\log 0`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.encoders.open_clip_layers import hooked

ATTENTIONS = ("sclip", "clearclip", "naclip", "gem")
_SIGMA = 5.0  # positions
_GEM_SHARE = 7 / 12  # of the blocks, from the last on


@dataclass(frozen=True)
class Parts:
    """What a block consists of, whoever built it.

    Attributes:
        heads: tokens (B, N, C) to q, k and v, each (B, heads, N, d); the block's first norm is applied.
        out: heads (B, heads, N, d) joined and projected to (B, N, C), scaled as the block scales them.
        mlp: tokens (B, N, C) to what the block adds to them.
        scale: 1 / sqrt(d).
    """

    heads: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    out: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    scale: float


@contextmanager
def watch(blocks: Any, attention: str, prefix: int) -> Iterator[list[Tensor]]:
    """A context in which a forward through the blocks leaves the dense tokens (B, N, C) in a list.

    Args:
        blocks: of a ViT, in order.
        attention: one of `ATTENTIONS`.
        prefix: tokens in front of the positions (class, registers).

    Raises:
        UnsupportedByModel: on entering, a block that is built in another way.
    """
    last = _parts(blocks[-1])
    found: list[Tensor] = []

    def catch_last(_module: nn.Module, inputs: Any, _output: Any) -> None:
        found.append(_from_last(last, inputs[0], attention, prefix))

    if attention != "gem":
        with hooked(blocks[-1], catch_last):
            yield found
        return
    depth = max(1, round(_GEM_SHARE * len(blocks)))
    chosen = list(blocks)[-depth:]
    path: list[Tensor] = []

    def follow(parts: Parts) -> Callable[[nn.Module, Any, Any], None]:
        def catch(_module: nn.Module, inputs: Any, _output: Any) -> None:
            path.append((path[-1] if path else inputs[0]) + _self_self(parts, inputs[0]))

        return catch

    with ExitStack() as hooks:
        for block in chosen:
            hooks.enter_context(hooked(block, follow(_parts(block))))
        yield path


@contextmanager
def watch_regions(blocks: Any, shares: Tensor, prefix: int) -> Iterator[list[Tensor]]:
    """A context in which a forward of one image through the blocks leaves the regions' tokens (1, R, C) in a list.

    Args:
        blocks: of a ViT whose first token is its class token, in order.
        shares: (R, h w) in [0, 1], how much of each position a region covers.
        prefix: tokens in front of the positions (class, registers).

    Raises:
        UnsupportedByModel: on entering, a block that is built in another way.
    """
    count, length = len(shares), prefix + shares.shape[1]
    bias = shares.new_full((count, length + count), -torch.inf)
    bias[:, prefix:length] = shares.log()
    bias[:, length:].fill_diagonal_(0)
    path: list[Tensor] = []

    def follow(parts: Parts) -> Callable[[nn.Module, Any, Any], None]:
        def catch(_module: nn.Module, inputs: Any, _output: Any) -> None:
            own = path[-1] if path else inputs[0][:, :1].expand(-1, count, -1)
            q, k, v = parts.heads(torch.cat([inputs[0], own], dim=1))
            own = own + parts.out(_softmax(parts.scale * q[:, :, length:] @ k.mT + bias) @ v)
            path.append(own + parts.mlp(own))

        return catch

    with ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(hooked(block, follow(_parts(block))))
        yield path


def _from_last(parts: Parts, tokens: Tensor, attention: str, prefix: int) -> Tensor:
    q, k, v = parts.heads(tokens)
    if attention == "sclip":
        weights = _softmax(parts.scale * q @ q.mT) + _softmax(parts.scale * k @ k.mT)
        tokens = tokens + parts.out(weights @ v)
        return tokens + parts.mlp(tokens)
    if attention == "clearclip":
        return parts.out(_softmax(parts.scale * q @ q.mT) @ v)
    scores = parts.scale * k @ k.mT
    scores[..., prefix:, prefix:] += _neighbourhood(tokens.shape[1] - prefix, tokens)
    return parts.out(_softmax(scores) @ v)


def _self_self(parts: Parts, tokens: Tensor) -> Tensor:
    q, k, v = parts.heads(tokens)
    # As sharp as the tokens are long: so does the method choose its temperature.
    sharpness = parts.scale * tokens.norm(dim=-1).mean(dim=-1).view(-1, 1, 1, 1)
    total = torch.zeros_like(v)
    for each in (q, k, v):
        own = normalize(each, dim=-1)
        own = normalize(_softmax(sharpness * own @ own.mT) @ own, dim=-1)
        total = total + _softmax(sharpness * own @ own.mT) @ v
    return parts.out(total / 3)


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


def _neighbourhood(count: int, like: Tensor) -> Tensor:
    side = round(count**0.5)
    if side * side != count:
        raise UnsupportedByModel(f"{count} positions lie on no square grid; expected a square number")
    rows, columns = torch.meshgrid(*(torch.arange(side, device=like.device, dtype=like.dtype),) * 2, indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    return torch.exp(-torch.cdist(places.float(), places.float()).square() / (2 * _SIGMA**2)).to(like.dtype)


def _parts(block: Any) -> Parts:
    if hasattr(block, "ln_1") and isinstance(getattr(block, "attn", None), nn.MultiheadAttention):
        return _open_clip_parts(block)
    attention = getattr(block, "attn", None)
    plain = all(hasattr(attention, name) for name in ("qkv", "proj", "num_heads")) and hasattr(block, "norm2")
    if not plain or getattr(attention, "gate", None) is not None:
        raise UnsupportedByModel(
            f"no dense attention in a {type(block).__name__}: expected a ViT's block; use attention=value"
        )
    return _timm_parts(block)


def _timm_parts(block: Any) -> Parts:
    attention = block.attn

    def heads(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = tokens.shape
        joined = attention.qkv(block.norm1(tokens)).reshape(batch, length, 3, attention.num_heads, -1)
        q, k, v = joined.permute(2, 0, 3, 1, 4).unbind(0)
        return attention.q_norm(q), attention.k_norm(k), v

    def out(found: Tensor) -> Tensor:
        joined = found.transpose(1, 2).flatten(2)
        norm = getattr(attention, "norm", None)
        return cast(Tensor, block.ls1(attention.proj(joined if norm is None else norm(joined))))

    def mlp(tokens: Tensor) -> Tensor:
        return cast(Tensor, block.ls2(block.mlp(block.norm2(tokens))))

    return Parts(heads, out, mlp, float(attention.scale))


def _open_clip_parts(block: Any) -> Parts:
    attention = block.attn

    def heads(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = tokens.shape
        joined = linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = joined.reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def out(found: Tensor) -> Tensor:
        return cast(Tensor, block.ls_1(attention.out_proj(found.transpose(1, 2).flatten(2))))

    def mlp(tokens: Tensor) -> Tensor:
        return cast(Tensor, block.ls_2(block.mlp(block.ln_2(tokens))))

    return Parts(heads, out, mlp, float(attention.head_dim) ** -0.5)

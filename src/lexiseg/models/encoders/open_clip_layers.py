"""Which layer of an image tower a saliency map is read from, and how its output becomes a map.

A layer serves only if every one of its positions reaches the embedding.  In a tower that pools its class
token the patch tokens that leave the last block reach nothing: their gradient is exactly zero, and so is that
of the block's second LayerNorm.  There the last block's *first* LayerNorm is read, whose patch tokens are the
keys and values that the class token attends to.  Where positions are averaged or attention-pooled, and in
convolutional towers, the last stage's own output serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isqrt
from threading import Lock, get_ident
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.fpn import EnsembleTower, FPNTower

_STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class SaliencyLayers:
    """The layers of one tower that can be read.

    Attributes:
        names: module names inside the tower, shallow to deep.
        default: the deepest of them whose every position influences the embedding; empty where no rule knows
            the architecture and a gradient must tell (`probe_default`).
        channels_last: outputs with four axes are (B, h, w, C) and not (B, C, h, w).
    """

    names: tuple[str, ...]
    default: str
    channels_last: bool = False


@dataclass
class Tap:
    """What a hook caught: `maps` (B, C, h, w), and `leaf`, the raw output that gradients are taken for."""

    maps: Tensor | None = None
    leaf: Tensor | None = None
    to_map: Callable[[Tensor], Tensor] = field(default=lambda output: output)


def find_layers(tower: nn.Module) -> SaliencyLayers:
    """The readable layers of an open_clip image tower.

    Args:
        tower: `model.visual` of any model that open_clip builds: its own ViT and ResNet, or a timm adapter.

    Returns:
        Names relative to `tower`.
    """
    trunk = getattr(tower, "trunk", None)
    if trunk is not None:
        return _timm_layers(trunk)
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is not None:
        pools_class_token = getattr(tower, "attn_pool", None) is None and getattr(tower, "pool_type", "") == "tok"
        return _block_layers("transformer.resblocks", len(blocks), "ln_1", pools_class_token)
    stages = tuple(name for name in _STAGES if hasattr(tower, name))
    return SaliencyLayers(stages, stages[-1] if stages else "")


def _timm_layers(trunk: nn.Module) -> SaliencyLayers:
    blocks: Any = getattr(trunk, "blocks", None)
    first = blocks[0] if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) else None
    # A plain ViT: blocks of tokens with the class token among them.  XCiT and its like also have `blocks`,
    # but the class token joins later, so every position of the last block counts: they go by `feature_info`
    # below.
    if (
        first is not None
        and hasattr(first, "norm1")
        and hasattr(trunk, "num_prefix_tokens")
        and not hasattr(trunk, "cls_attn_blocks")
    ):
        pools_class_token = getattr(trunk, "global_pool", "") == "token" and getattr(trunk, "attn_pool", None) is None
        return _block_layers("trunk.blocks", len(blocks), "norm1", pools_class_token)
    info = getattr(trunk, "feature_info", None) or ()
    modules = dict(trunk.named_modules())
    names = tuple(f"trunk.{name}" for name in (str(stage["module"]) for stage in info) if name in modules)
    return SaliencyLayers(names, names[-1] if names else "", getattr(trunk, "output_fmt", "") == "NHWC")


def _block_layers(prefix: str, depth: int, norm: str, pools_class_token: bool) -> SaliencyLayers:
    names = tuple(name for i in range(depth) for name in (f"{prefix}.{i}.{norm}", f"{prefix}.{i}"))
    return SaliencyLayers(names, names[-2] if pools_class_token else names[-1])


def as_map(output: Any, channels_last: bool = False) -> Tensor:
    """A layer's output as maps (B, C, h, w).

    Tokens (B, p + n*n, C) lose the p tokens in front (class, registers) and go back on their n x n grid:
    inputs are square, so the grid is.

    Raises:
        UnsupportedByModel: the output is neither tokens nor maps.
    """
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.permute(0, 3, 1, 2) if channels_last else output
    if isinstance(output, Tensor) and output.ndim == 3:
        batch, length, channels = output.shape
        side = isqrt(length)
        if side >= 2:
            return output[:, length - side * side :].transpose(1, 2).reshape(batch, channels, side, side)
    kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise UnsupportedByModel(f"the layer's output {kind} is not a map: expected (B, C, h, w) or tokens (B, n, C)")


Hook = Callable[[nn.Module, Any, Any], Any]

# torch counts its hooks without a lock: two that are registered at once can get the same number, and one is lost.
_REGISTERING = Lock()


@contextmanager
def hooked(module: nn.Module, hook: Hook) -> Iterator[None]:
    """A forward hook that acts in this thread alone and is always released: others may use the same model."""
    owner = get_ident()

    def act(module: nn.Module, inputs: Any, output: Any) -> Any:
        return hook(module, inputs, output) if get_ident() == owner else None

    with _REGISTERING:
        handle = module.register_forward_hook(act)
    try:
        yield
    finally:
        with _REGISTERING:
            handle.remove()


@contextmanager
def patch(
    tower: nn.Module, name: str, function: Callable[[Tensor], Tensor], *, channels_last: bool = False
) -> Iterator[None]:
    """Put ``function(features)`` in place of a layer's features, in this thread, during the context.

    Args:
        tower: the image tower.
        name: of a module in it.
        function: takes maps (B, C, h, w) or tokens (B, p + h w, C) and returns as many.
        channels_last: outputs with four axes are (B, h, w, C); the function sees (B, C, h, w) all the same.

    Raises:
        UnsupportedByModel: the tower has no layer of that name, or (in the forward) its output is neither
            maps nor tokens.
        ValueError: in the forward, the function returned another shape.
    """

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Tensor:
        as_map(output, channels_last)  # refuses what is neither
        turned = channels_last and output.ndim == 4
        features = output.permute(0, 3, 1, 2) if turned else output
        found = function(features)
        if found.shape != features.shape:
            raise ValueError(f"got features of shape {tuple(found.shape)}, expected {tuple(features.shape)}")
        found = found.to(features)
        return found.permute(0, 2, 3, 1) if turned else found

    with hooked(_submodule(tower, name), replace):
        yield


def rest_of(tower: Any, name: str) -> Callable[[Tensor], Tensor]:
    """What an open_clip image tower does after a layer: the layer's features to the image's, unnormalised.

    It is known for blocks of plain ViTs (timm's and CLIP's own), for the stages of CLIP's ResNets, and for the
    last map of our FPNs.

    Raises:
        UnsupportedByModel: no such layer; or one inside a block, whose output is not all that follows needs; or
            an architecture that has no rule here.
    """
    _submodule(tower, name)
    trunk: Any = getattr(tower, "trunk", None)
    parent, _, last = name.rpartition(".")
    if isinstance(trunk, FPNTower | EnsembleTower) and name == f"trunk.{trunk.feature_info[-1]['module']}":
        return lambda maps: tower.head(trunk.forward_head(maps))
    plain = isinstance(trunk, VisionTransformer) and type(trunk).forward_features is VisionTransformer.forward_features
    if plain and parent == "trunk.blocks":
        return lambda tokens: tower.head(trunk.forward_head(trunk.norm(trunk.blocks[int(last) + 1 :](tokens))))
    transformer: Any = getattr(tower, "transformer", None)
    if parent == "transformer.resblocks" and transformer.batch_first and hasattr(tower, "_pool"):
        return lambda tokens: _clip_vit_rest(tower, transformer.resblocks[int(last) + 1 :], tokens)
    if hasattr(tower, "attnpool") and name in _STAGES:
        later = _STAGES[_STAGES.index(name) + 1 :]
        return lambda maps: tower.attnpool(_in_turn([getattr(tower, each) for each in later], maps))
    raise UnsupportedByModel(
        f"what follows {name!r} needs more than its output, or has no rule in {type(trunk or tower).__name__}:"
        " name a whole block or stage, or use patched(), which runs the whole tower"
    )


def _clip_vit_rest(tower: Any, blocks: Iterable[nn.Module], tokens: Tensor) -> Tensor:
    pooled, _ = tower._pool(_in_turn(blocks, tokens))
    return torch.as_tensor(pooled if tower.proj is None else pooled @ tower.proj)


def _in_turn(modules: Iterable[nn.Module], features: Tensor) -> Tensor:
    for module in modules:
        features = module(features)
    return features


def _submodule(tower: nn.Module, name: str) -> nn.Module:
    try:
        return tower.get_submodule(name)
    except AttributeError as error:
        raise UnsupportedByModel(f"the image tower has no layer {name!r}: see layers()") from error


@contextmanager
def tapped(tower: nn.Module, name: str, *, channels_last: bool = False, gradient: bool = False) -> Iterator[Tap]:
    """Catch a layer's output during the forwards inside the context; the hook is always released.

    With `gradient`, the output is cut from what made it and becomes a leaf: only the layers after it are
    differentiated, which for a late layer costs a small part of a whole backward pass.

    Raises:
        UnsupportedByModel: the tower has no layer of that name.
    """
    module = _submodule(tower, name)
    tap = Tap(to_map=lambda output: as_map(output, channels_last))

    def catch(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        tap.maps = as_map(output, channels_last).detach()
        if not gradient:
            return None
        tap.leaf = output.detach().requires_grad_(True)
        # A copy goes on: a layer behind may write in place (ReLU), which a leaf forbids.
        return tap.leaf.clone()

    with hooked(module, catch):
        yield tap


def probe_default(tower: nn.Module, forward: Callable[[Tensor], Tensor], pixels: Tensor) -> str:
    """The deepest layer of an unknown architecture whose every position has a gradient.

    Args:
        tower: the image tower.
        forward: the tower's pixels -> embedding.
        pixels: one random image, (1, 3, S, S).

    Returns:
        A module's name inside the tower.

    Raises:
        UnsupportedByModel: no module's output is a map that reaches the embedding.
    """
    caught: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def catch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim in (3, 4) and output.requires_grad:
                caught.append((name, output))

        return catch

    with ExitStack() as hooks, torch.enable_grad():
        for name, module in tower.named_modules():
            if name:
                hooks.enter_context(hooked(module, hook(name)))
        total = forward(pixels.clone().requires_grad_(True)).sum()
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            total, [output for _, output in caught], allow_unused=True
        )
    for (name, _), gradient in zip(reversed(caught), reversed(gradients), strict=True):
        if gradient is None:
            continue
        try:
            strength = as_map(gradient).abs().sum(dim=1)
        except UnsupportedByModel:
            continue
        if min(strength.shape[-2:]) >= 2 and bool((strength > 0).all()):
            return name
    raise UnsupportedByModel("no layer of the image tower is a map that reaches its embedding")

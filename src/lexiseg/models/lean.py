"""Networks as they are only asked: the same function, without what training needs.

A convolution and the norm after it are one convolution, weights are in the number format in which they are multiplied
and not cast again for each scan, and maps keep their channels last, as the fastest kernels have them.
"""

from __future__ import annotations

from copy import copy
from itertools import pairwise
from threading import Lock
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


class _Gelu(nn.Module):
    """GELU of maps with their channels last, as one contiguous array: torch's fast kernel takes no other."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.is_contiguous():
            return gelu(x)
        return gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Places:
    """What a Hiera adds to its positions, interpolated once for a size of scan and not for each scan."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._last: tuple[tuple[Any, ...], Tensor] = (), torch.empty(0)

    def __call__(self, x: Tensor) -> Tensor:
        kind = (*x.shape[1:], x.dtype, x.device)
        known, table = self._last
        if known != kind:
            table = type(self._network)._pos_embed(self._network, x.new_zeros(1, *x.shape[1:]))
            self._last = kind, table
        return x + table


class _Packed(nn.Module):
    """A linear layer with its weight as oneDNN has it, once and not anew in each call, and a GELU in one pass."""

    def __init__(self, layer: nn.Linear, *, then_gelu: bool) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        self._bias, self._dtype = layer.bias, layer.weight.dtype
        self._after: tuple[str, list[Any], str] = ("gelu", [], "none") if then_gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self._dtype), self._weight, self._bias, *self._after)
        return made


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch packs linear layers of a number format on a device, and computes the same with them.

    The operators are torch's own for compiled networks, and have no public name: they are tried before they are used.
    """
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.copy_(torch.linspace(-1, 1, tensor.numel()).view_as(tensor))
    layer, x = layer.to(dtype), torch.linspace(-2, 2, 20).view(2, 2, 5).to(dtype)
    try:
        found = [_Packed(layer, then_gelu=then)(x) for then in (False, True)]
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    expected = layer(x)
    near = 0.05 if dtype == torch.bfloat16 else 1e-5
    pairs = zip(found, (expected, gelu(expected)), strict=True)
    return all(one.shape == other.shape and torch.allclose(one, other, atol=near, rtol=near) for one, other in pairs)


def lean(network: Network, *, device: torch.device, dtype: torch.dtype) -> Network:
    """A copy of a network of `models.fpn`, of MobileSAM's or of a plain ViT, for evaluation under `autocast(device,
    dtype)`.

    What does not change is shared with the network, whose weights stay as they are. The copy does not follow where they
    are trained later. It takes pixels whose memory format is channels last.

    Only for networks that call what they hold in order: every batch norm that stands after a convolution is taken to be
    applied to it.

    Args:
        network: in evaluation mode, on its device.
        device: where it is.
        dtype: of its matrix products.

    Example:
        >>> whole = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> lean(whole, device=torch.device("cpu"), dtype=torch.float32)
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(1, 1), stride=(1, 1))
          (1): Identity()
          (2): ReLU()
        )
    """
    made = _same_over(network, {})
    for module in list(made.modules()):
        _fold(module)
    packs = can_pack(device, dtype)
    for module in list(made.modules()):
        for name, child in module.named_children():
            if _is_gelu(child):
                setattr(module, name, _Gelu())
        if hasattr(module, "_pos_embed") and hasattr(module, "pos_embed_window"):
            object.__setattr__(module, "_pos_embed", _Places(module))
        if isinstance(module, nn.Conv2d | nn.Linear):
            _cast(module, dtype)
        if device.type == "cpu" and dtype == torch.bfloat16:
            _attend_by_products(module, dtype)
    for module in list(made.modules()) if packs else ():
        _pack(module)
    return made.requires_grad_(False)


def _same_over(module: Network, made: dict[int, nn.Module]) -> Network:
    """The same modules over the same tensors, as objects of their own.

    A deep copy of one of the bundled networks takes 0.2 s, nearly all of it for what no module here changes.
    """
    if id(module) not in made:
        found = made[id(module)] = copy(module)
        # Plain dictionaries are a module's own notes, such as a cache; torch's own hold what is put in others' place.
        vars(found).update({name: dict(each) for name, each in vars(found).items() if type(each) is dict})
        found._modules = {
            name: child if child is None else _same_over(child, made) for name, child in module._modules.items()
        }
    return cast(Network, made[id(module)])


def _fold(module: nn.Module) -> None:
    """Each convolution of the module's own with the norm that stands after it."""
    children = list(module.named_children())
    for (name, first), (after, norm) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(first, norm))
            # timm's norms have their activation inside.
            setattr(module, after, getattr(norm, "act", nn.Identity()))


def _is_gelu(module: nn.Module) -> bool:
    # torch's, timm's of the same name, and ours; the tangent's is another function.
    return type(module).__name__ in ("GELU", "_Gelu") and getattr(module, "approximate", "none") == "none"


def _pack(module: nn.Module) -> None:
    """Each linear layer of the module's own, with the GELU that stands after it."""
    children = list(module.named_children())
    for (name, layer), (after, following) in pairwise([*children, ("", nn.Identity())]):
        if type(layer) is nn.Linear:
            setattr(module, name, _Packed(layer, then_gelu=_is_gelu(following)))
            if _is_gelu(following):
                setattr(module, after, nn.Identity())


def _cast(layer: nn.Conv2d | nn.Linear, dtype: torch.dtype) -> None:
    weight = layer.weight.detach().to(dtype)
    if weight.ndim == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    layer.weight = nn.Parameter(weight)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach().to(dtype))


def _attend_by_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Attention as two matrix products: in bfloat16 torch's fused kernel takes twice as long on a CPU."""
    attention: Any = module
    if hasattr(attention, "fused_attn"):
        attention.fused_attn = False
    if hasattr(attention, "attention_biases"):  # TinyViT's
        attention.attention_biases = nn.Parameter(attention.attention_biases.detach().to(dtype))
        attention.attention_bias_cache = {}


class LeanCopy:
    """A network's lean copy, made when it is first asked for; see `lean`."""

    def __init__(self, network: nn.Module, *, device: torch.device, dtype: torch.dtype) -> None:
        self._network, self._device, self._dtype = network, device, dtype
        self._made: Any = None
        self._lock = Lock()

    @property
    def made(self) -> Any:
        """The copy."""
        with self._lock, torch.inference_mode(False):
            if self._made is None:
                self._made = lean(self._network, device=self._device, dtype=self._dtype)
            return self._made

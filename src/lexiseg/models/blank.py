"""Networks built without the random numbers that their weights are about to replace, and a look at those weights."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import tiny_vit
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

_METHODS = frozenset({torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_})
# Inside these a mode is not asked, since they are functions that may be overridden themselves.  By name: transformers
# puts functions of its own in their place while it builds a network.
_INITIALIZERS = frozenset({
    "uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_",
    "xavier_normal_",
})  # fmt: skip
_OF = frozenset({init.__name__, "transformers.initialization"})
_OFFSETS = tiny_vit.Attention._init_buffers


class Blank(TorchFunctionMode):
    """Inside, tensors that would be filled at random are filled with 0, and a TinyViT's tables are computed once.

    For networks of which every weight is loaded right after, strictly. Drawing takes seconds for a ViT-B, and draws
    from the generator that a caller may have seeded. What is computed (tables of positions) is computed as ever, which
    the meta device would not do. Zeros, and not what memory happens to hold: torch's truncated normal draws until all
    values lie within its bounds.

    Each attention of a TinyViT fills a table of offsets, by size of window, in a loop of Python: twenty of them took a
    sixth of a second of each start. There are two sizes.

    Example:
        >>> with Blank():
        ...     layer = torch.nn.Linear(2, 3)
        >>> layer.weight.abs().sum().item()
        0.0
    """

    def __init__(self) -> None:
        super().__init__()
        self._tables: dict[tuple[int, int], Tensor] = {}

    def __enter__(self) -> Blank:
        tables = self._tables

        def once(attention: Any) -> None:
            if attention.resolution not in tables:
                _OFFSETS(attention)
                tables[attention.resolution] = attention.attention_bias_idxs.clone()
            attention.attention_bias_idxs.copy_(tables[attention.resolution])

        tiny_vit.Attention._init_buffers = once
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        tiny_vit.Attention._init_buffers = _OFFSETS

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Any call but a draw, as it is."""
        kwargs = kwargs or {}
        named = getattr(func, "__name__", "") in _INITIALIZERS and getattr(func, "__module__", "") in _OF
        if func in _METHODS or named:
            tensor = args[0] if args else kwargs["tensor"]
            with torch.no_grad():
                return tensor.zero_()
        return func(*args, **kwargs)


def all_finite(network: nn.Module) -> bool:
    """Whether no weight is NaN or infinite.

    A sum is finite only of finite numbers, and takes a tenth of the time of looking at each; that of huge ones may not
    be, so then each is looked at.

    Example:
        >>> layer = torch.nn.Linear(2, 3)
        >>> all_finite(layer)
        True
    """
    with torch.no_grad():
        return all(
            bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all()) for tensor in network.parameters()
        )

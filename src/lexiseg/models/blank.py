"""Networks built without drawing the random numbers that their weights are about to replace."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_METHODS = frozenset({torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_})
# Inside these a mode is not asked, since they are functions that may be overridden themselves.
_INITIALIZERS = frozenset({
    init.uniform_, init.normal_, init.trunc_normal_, init.kaiming_uniform_, init.kaiming_normal_,
    init.xavier_uniform_, init.xavier_normal_,
})  # fmt: skip


class Blank(TorchFunctionMode):
    """Inside, tensors that would be filled at random are filled with 0.

    For networks of which every weight is loaded right after, strictly. Drawing takes seconds for a ViT-B, and draws
    from the generator that a caller may have seeded. What is computed (tables of positions) is computed as ever, which
    the meta device would not do. Zeros, and not what memory happens to hold: torch's truncated normal draws until all
    values lie within its bounds.

    Example:
        >>> with Blank():
        ...     layer = torch.nn.Linear(2, 3)
        >>> layer.weight.abs().sum().item()
        0.0
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Any call but a draw, as it is."""
        kwargs = kwargs or {}
        if func in _METHODS or func in _INITIALIZERS:
            tensor = args[0] if args else kwargs["tensor"]
            with torch.no_grad():
                return tensor.zero_()
        return func(*args, **kwargs)

"""int8 weights on disk: whole numbers and one scale for each output channel.

A checkpoint holds ``NAME`` as int8 and ``NAME_scale`` beside it; a network that calls `unpack` when it is
loaded computes in float as ever.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor

SCALE = "_scale"
_LARGEST = 127


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""A weight's nearest whole numbers :math:`q` with :math:`w_{c \dots} \approx s_c\, q_{c \dots}`.

    :math:`s_c` is the channel's largest magnitude over 127, so that no weight is off by more than half of it.

    Args:
        weight: of any floating dtype, (C, ...), finite.

    Returns:
        int8 of the same shape, and the scales, float32 (C,); those of channels of zeros are 1.
    """
    rows = weight.detach().float().flatten(1)
    scale = rows.abs().amax(1) / _LARGEST
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (rows / scale[:, None]).round().to(torch.int8).reshape(weight.shape), scale


def unpack(state: MutableMapping[str, Tensor], prefix: str = "") -> None:
    """Put weights, float32, in place of whole numbers and their scales, in a state dict; the rest stays.

    Args:
        state: changed in place.
        prefix: only names that begin so.

    Raises:
        ValueError: whole numbers without one scale for each output channel: taken as weights they are noise.
    """
    for name, whole in [(n, v) for n, v in state.items() if n.startswith(prefix) and v.dtype == torch.int8]:
        scale = state.pop(name + SCALE, None)
        if scale is None or scale.shape != whole.shape[:1]:
            found = "none" if scale is None else f"{tuple(scale.shape)}"
            raise ValueError(f"{name} is int8 {tuple(whole.shape)}; its scales are {found}, expected (C,)")
        weight = whole.float().flatten(1) * scale.float()[:, None]
        state[name] = weight.reshape(whole.shape)

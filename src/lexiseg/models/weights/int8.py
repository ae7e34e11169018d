"""int8 weights on disk: whole numbers and one scale for each output channel.

A checkpoint holds ``NAME`` as int8 and ``NAME_scale`` beside it; a network that calls `unpack` when it is
loaded computes in float as ever.  Tables of which a row or a few are read at a time (token embeddings) may have 4 bits:
``NAME`` is uint8 then, two numbers to a byte.
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


def pack_nibbles(table: Tensor) -> tuple[Tensor, Tensor]:
    r"""A table's nearest whole numbers from -7 to 7, as `pack`; two of a row lie in a byte, the first in its low half.

    Args:
        table: of any floating dtype, (C, W), finite; W is even.

    Returns:
        uint8 (C, W / 2), each half 8 more than its number, and the scales, float32 (C,); those of rows of zeros are 1.

    Raises:
        ValueError: another shape.
    """
    if table.ndim != 2 or table.shape[1] % 2:
        raise ValueError(f"a table of shape {tuple(table.shape)} has no pairs; expected (C, W) with an even W")
    rows = table.detach().float()
    scale = rows.abs().amax(1) / 7
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    whole = (rows / scale[:, None]).round().to(torch.int16) + 8
    return (whole[:, ::2] + 16 * whole[:, 1::2]).to(torch.uint8), scale


def unpack(state: MutableMapping[str, Tensor], prefix: str = "") -> None:
    """Put weights, float32, in place of whole numbers and their scales, in a state dict; the rest stays.

    Args:
        state: changed in place.
        prefix: only names that begin so.

    Raises:
        ValueError: whole numbers without one scale for each output channel: taken as weights they are noise.
    """
    packed = (torch.int8, torch.uint8)
    for name, stored in [(n, v) for n, v in state.items() if n.startswith(prefix) and v.dtype in packed]:
        scale = state.pop(name + SCALE, None)
        if scale is None or scale.shape != stored.shape[:1]:
            found = "none" if scale is None else f"{tuple(scale.shape)}"
            kind = str(stored.dtype).removeprefix("torch.")
            raise ValueError(f"{name} is {kind} {tuple(stored.shape)}; its scales are {found}, expected (C,)")
        whole = stored if stored.dtype == torch.int8 else _halves(stored)
        weight = whole.float().flatten(1)
        weight *= scale.float()[:, None]
        state[name] = weight.reshape(whole.shape)


def _halves(stored: Tensor) -> Tensor:
    return torch.stack([stored & 15, stored >> 4], 2).flatten(1).to(torch.int8) - 8

"""A finer dense map from one tower: look again with the view moved by fractions of the stride."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_offsets(stride: float, shifts: int) -> list[int]:
    """Where the n views of an axis look from, in whole input pixels, centred on 0.

    With stride s and n shifts, position i of view k is centred on ``(i + 1/2) s + (k - (n - 1) / 2) s / n``,
    which is ``(i n + k + 1/2) s / n``: interleaved, the n maps are exactly one map of stride s / n.  Offsets
    that are not whole are rounded (2 or 4 shifts of stride 16 or 32 are whole; no error exceeds half an input
    pixel).
    """
    return [round((k - (shifts - 1) / 2) * stride / shifts) for k in range(shifts)]


def shifted_views(view: Tensor, strides: tuple[float, float], shifts: int) -> Tensor:
    """All n * n shifted copies of a view (1, 3, S, S) as one batch (n * n, 3, S, S), row shift outermost.

    What comes into view at an edge repeats the edge's pixels (the fill, where the view is letterboxed); what
    leaves it there is seen by the opposite shift.
    """
    rows, columns = (shift_offsets(stride, shifts) for stride in strides)
    margin = max(abs(offset) for offset in (*rows, *columns))
    side = view.shape[-1]
    wide = F.pad(view, (margin,) * 4, mode="replicate") if margin else view
    return torch.cat(
        [
            wide[:, :, margin + y : margin + y + side, margin + x : margin + x + side]
            for y in rows
            for x in columns
        ]
    )


def interleave(maps: Tensor, shifts: int) -> Tensor:
    """Maps (n * n, E, h, w) of `shifted_views` as one map (E, h * n, w * n) over the unshifted view."""
    _, channels, height, width = maps.shape
    grid = maps.reshape(shifts, shifts, channels, height, width)
    return grid.permute(2, 3, 0, 4, 1).reshape(channels, height * shifts, width * shifts)

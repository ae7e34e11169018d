"""Attention of SAM's image encoder over a whole scan, a row of positions at a time.

SAM adds to each pair of positions two numbers, of their rows and of their columns. transformers writes that sum down
for all pairs of all heads, 800 MB for SAM's own sizes, and reads it again with the scores. A row's pairs fit a
processor's cache instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam.modeling_sam import SamVisionSdpaAttention

_LEAST = 1024
"""From so many positions on it pays; a window has 196."""


class RowAttention(SamVisionSdpaAttention):  # type: ignore[misc]
    """transformers' attention with the same weights and, up to rounding, the same numbers; for inference on a CPU."""

    def forward(self, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, Tensor | None]:
        """Features (B, h, w, C) to as many."""
        batch, height, width, _ = hidden_states.shape
        small = height * width < _LEAST
        if small or hidden_states.device.type != "cpu" or torch.is_grad_enabled() or not self.use_rel_pos:
            return super().forward(hidden_states, output_attentions)  # type: ignore[no-any-return]
        heads = self.num_attention_heads
        split = self.qkv(hidden_states).reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = split.flatten(1, 2).unbind(0)
        by_row = self.get_rel_pos(height, height, self.rel_pos_h)
        by_column = self.get_rel_pos(width, width, self.rel_pos_w)
        seen = attend(queries, keys, values, by_row, by_column)
        seen = seen.view(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4).reshape(batch, height, width, -1)
        return self.proj(seen), None


def attend(queries: Tensor, keys: Tensor, values: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    r"""Attention with decomposed relative positions.

    .. math:: \mathrm{softmax}_j\big(q_i^\top k_j / \sqrt d + q_i^\top r_{y_i y_j} + q_i^\top c_{x_i x_j}\big)\, v_j

    (Li et al., "MViTv2", CVPR 2022, equation 4). Scores are float32 at least; values are weighed in their own format.

    Args:
        queries: (n, h w, d), rows of positions one after the other.
        keys: as `queries`.
        values: as `queries`.
        by_row: r, (h, h, d).
        by_column: c, (w, w, d).

    Returns:
        (n, h w, d).
    """
    height, width = len(by_row), len(by_column)
    scale = queries.shape[-1] ** -0.5
    exact = torch.promote_types(queries.dtype, torch.float32)
    values = values.contiguous()
    found = torch.empty_like(values)
    with torch.autocast(queries.device.type, enabled=False):
        for index in range(len(queries)):
            asked = queries[index].to(exact).view(height, width, -1)
            known = keys[index].to(exact).T
            rows = asked @ by_row.to(exact).transpose(1, 2)  # of each row's positions to each row
            columns = (asked.transpose(0, 1) @ by_column.to(exact).transpose(1, 2)).transpose(0, 1)
            placed = found[index].view(height, width, -1)
            for y in range(height):
                scores = torch.mm(asked[y] * scale, known).view(width, height, width)
                scores += rows[y, :, :, None]
                scores += columns[y, :, None, :]
                shares = torch.softmax(scores.view(width, height * width), -1)
                placed[y] = shares.to(values.dtype) @ values[index]
    return found


def attend_by_rows(model: nn.Module) -> None:
    """Let a SamModel's image encoder attend by rows; weights and their names stay."""
    encoder: Any = getattr(model, "vision_encoder", None)
    for layer in getattr(encoder, "layers", ()):
        if type(getattr(layer, "attn", None)) is SamVisionSdpaAttention:
            layer.attn.__class__ = RowAttention

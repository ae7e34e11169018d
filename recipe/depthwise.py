"""Depthwise convolutions that are fast to train in bfloat16 on a CPU.

oneDNN has no fast bfloat16 kernel for the gradients of a depthwise convolution: at a stride of 2 they take
four to a hundred times as long as in float32, and half of a step.  Here the forward pass is in bfloat16 and
the gradients are computed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn import functional


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in the input's dtype, whose gradients are computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = (stride, padding)
        return functional.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.how
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight.float(), None, stride, padding, [1, 1], False, [0, 0],
            weight.shape[0], [True, True, False],
        )  # fmt: skip
        return of_x.to(x.dtype), of_weight, None, None


def differentiate_in_float(model: nn.Module) -> None:
    """Let every trainable depthwise convolution of a model, in place, compute its gradients in float32.

    Each takes (B, C, H, W) of any floating dtype and gives (B, C, h, w) in bfloat16; the gradient of its
    weight is float32.

    Args:
        model: its `nn.Conv2d` with one channel a group, without bias and dilation, are changed; weights and
            their names stay as they are.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == module.in_channels == module.out_channels > 1
            and module.bias is None
            and module.dilation == (1, 1)
            and module.weight.requires_grad
        ):
            _replace_forward(module)


def _replace_forward(module: nn.Conv2d) -> None:
    same = isinstance(module, Conv2dSame)  # TensorFlow's padding, which follows the input's size
    padding = (0, 0) if same else module.padding

    def forward(x: Tensor) -> Tensor:
        if same:
            x = pad_same(x, list(module.kernel_size), list(module.stride))
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
            out: Tensor = _Depthwise.apply(x, module.weight, module.stride, padding)
        return out

    module.forward = forward  # type: ignore[assignment]

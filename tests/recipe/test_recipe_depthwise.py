"""Depthwise convolutions: bfloat16 forward, float32 gradients, the same weights and names."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from recipe.depthwise import differentiate_in_float


def gradients(model: nn.Module, pixels: Tensor, *, half: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """What comes out, and every weight's gradient of the mean of its squares."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out = model(pixels).float()
    model.zero_grad()
    out.square().mean().backward()
    return out.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def alike(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [15, 16])
@pytest.mark.parametrize("padding", ["same", "half"])
def test_as_in_float32(kernel: int, stride: int, side: int, padding: str) -> None:
    torch.manual_seed(kernel + stride)
    pad = {"same": "same", "half": kernel // 2}[padding]
    conv = timm.layers.create_conv2d(8, 8, kernel, stride=stride, padding=pad, depthwise=True)
    changed = copy.deepcopy(conv)
    differentiate_in_float(changed)
    pixels = torch.randn(2, 8, side, side).requires_grad_()
    also = pixels.detach().clone().requires_grad_()
    expected, of = gradients(conv, pixels, half=False)
    found, of_changed = gradients(changed, also, half=True)
    assert found.shape == expected.shape
    # bfloat16 rounds pixels, weights and the sum by at most 2 ** -8 each, of sums of the products' sizes; float32,
    # in which the sum is, adds next to nothing.
    sizes = copy.deepcopy(conv)
    sizes.weight.data.abs_()
    bound = 3.1 * 2**-8 * sizes(pixels.detach().abs())
    assert bool(((found - expected).abs() <= bound).all())
    assert alike(of_changed["weight"], of["weight"]) > 0.999
    assert pixels.grad is not None and also.grad is not None
    assert alike(also.grad, pixels.grad) > 0.999


def test_a_tower_keeps_its_names_and_gets_a_gradient_everywhere() -> None:
    torch.manual_seed(0)
    tower = timm.create_model("tf_efficientnet_lite0", num_classes=4).train()
    names = list(tower.state_dict())
    changed = copy.deepcopy(tower)
    differentiate_in_float(changed)
    assert list(changed.state_dict()) == names
    pixels = torch.randn(4, 3, 64, 64)
    _, expected = gradients(tower, pixels, half=True)
    _, found = gradients(changed, pixels, half=True)
    assert found.keys() == expected.keys()
    assert all(v.dtype == torch.float32 and v.abs().sum() > 0 for v in found.values())


def test_only_trainable_depthwise_convolutions_change() -> None:
    frozen = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    frozen.weight.requires_grad_(False)
    others = nn.Sequential(
        nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=2, bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, dilation=2), frozen,
    )  # fmt: skip
    differentiate_in_float(others)
    assert all("forward" not in vars(module) for module in others)
    plain = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    differentiate_in_float(plain)
    assert "forward" in vars(plain)

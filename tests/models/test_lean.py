"""Lean copies: the same function with less work, and nothing of the network changed."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from timm.layers import SwiGLU
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lexiseg.models import lean as lean_module
from lexiseg.models.encoders.open_clip_dense import class_token_features, is_plain_vit
from lexiseg.models.fpn import ARCHITECTURES
from lexiseg.models.lean import LeanCopy, can_pack, lean
from lexiseg.models.loading import autocast, load_encoder, load_segmenter
from lexiseg.models.segmenters.sam_tiny_vit import MOBILE_SAM_TOWER

CPU = torch.device("cpu")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
NAMES = (*(each.__name__ for each in ARCHITECTURES if "lite2_tiny" not in each.__name__), MOBILE_SAM_TOWER)


def trained(name: str) -> nn.Module:
    """A network in evaluation mode whose norms are not what they were initialised to."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, num_classes=0, num_features=32).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor, 0.5, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def answers(network: nn.Module, made: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a network and its lean copy make of pixels."""
    with torch.inference_mode():
        expected = network.forward_features(pixels)
        return expected, made.forward_features(pixels.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", NAMES)
def test_a_lean_copy_computes_the_same(name: str) -> None:
    network = trained(name).double()
    before = copy.deepcopy(network.state_dict())
    made = lean(network, device=CPU, dtype=torch.float64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    expected, found = answers(network, made, torch.rand(2, 3, 64, 64, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "kind", [{}, {"qk_norm": True, "init_values": 0.5}, {"reg_tokens": 2, "pre_norm": True}, {"scale_attn_norm": True}]
)
def test_a_vits_class_token_is_all_that_its_last_block_is_asked(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    trunk = VisionTransformer(**VIT, **kind).eval().double()
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    tower: Any = nn.ModuleDict({"trunk": trunk, "head": nn.Linear(5, 4).double()})
    tower.trunk, tower.head = tower["trunk"], tower["head"]
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    assert is_plain_vit(tower)
    asked: list[tuple[int, ...]] = []
    trunk.blocks[-1].mlp.register_forward_pre_hook(lambda _, given: asked.append(tuple(given[0].shape)))
    with torch.inference_mode():
        expected = tower.head(trunk(pixels))
        found = class_token_features(tower, pixels)
        copied = lean(tower, device=CPU, dtype=torch.float64)
        copied.trunk, copied.head = copied["trunk"], copied["head"]
        again = class_token_features(copied, pixels)
    assert found is not None and again is not None
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(again, expected, rtol=1e-9, atol=1e-9)
    assert asked[1] == (2, 1, 24) and asked[0][1] == trunk.num_prefix_tokens + 16


def test_a_vit_that_pools_otherwise_is_asked_as_it_is() -> None:
    tower = SimpleNamespace(trunk=VisionTransformer(**VIT, global_pool="avg"))
    assert is_plain_vit(tower) and class_token_features(tower, torch.rand(1, 3, 32, 32)) is None
    assert not is_plain_vit(SimpleNamespace(trunk=VisionTransformer(**VIT, mlp_layer=SwiGLU)))
    assert not is_plain_vit(SimpleNamespace(trunk=nn.Identity())) and not is_plain_vit(nn.Identity())


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_it_is_no_further_off_than_the_network_is(name: str) -> None:
    network = trained(name)
    made = lean(network, device=CPU, dtype=torch.bfloat16)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        exact = network.forward_features(pixels)
        with autocast(CPU, torch.bfloat16):
            usual = network.forward_features(pixels).float()
            found = made.forward_features(pixels.contiguous(memory_format=torch.channels_last)).float()
    # Twice: roundings fall otherwise, since folded weights round otherwise.
    assert (found - exact).norm() <= 2 * (usual - exact).norm()


@pytest.mark.parametrize("name", NAMES)
def test_packed_layers_compute_the_same(name: str) -> None:
    """In float32, in which layers are packed where torch can: up to some roundings of each layer."""
    network = trained(name)
    made = lean(network, device=CPU, dtype=torch.float32)
    expected, found = answers(network, made, torch.rand(2, 3, 64, 64))
    assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_without_the_operators_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(lean_module._Packed, "__init__", refuse)
    assert not can_pack(CPU, torch.float32)
    made = lean(trained("fpn_tiny_vit_5m_stem"), device=CPU, dtype=torch.float32)
    assert any(isinstance(module, nn.Linear) for module in made.modules())


def test_what_computes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_module._Packed, "forward", lambda self, x: x.new_zeros(*x.shape[:-1], 3))
    assert not can_pack(CPU, torch.float32)
    assert not can_pack(torch.device("meta"), torch.float32)


def test_its_positions_follow_the_size_of_the_scan() -> None:
    network = trained("fpn_sam2_hiera_tiny").double()
    made = lean(network, device=CPU, dtype=torch.float64)
    with torch.inference_mode():
        for side in (64, 96, 96, 64):
            pixels = torch.rand(1, 3, side, side, dtype=torch.float64)
            expected = network.forward_features(pixels)
            torch.testing.assert_close(made.forward_features(pixels), expected, rtol=1e-9, atol=1e-9)


def test_what_it_shares_is_not_copied() -> None:
    network = trained("fpn_sam2_hiera_tiny").double()  # which nothing packs
    own = {tensor.data_ptr() for tensor in network.parameters()}
    made = lean(network, device=CPU, dtype=torch.float64)
    linear = [module.weight for module in made.modules() if isinstance(module, nn.Linear)]
    assert linear and all(weight.data_ptr() in own for weight in linear)


def test_it_is_made_once_and_takes_no_gradient() -> None:
    whole = LeanCopy(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval(), device=CPU, dtype=torch.float32)
    with torch.inference_mode():
        made = whole.made
    assert whole.made is made
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in made.parameters())


class Casts(TorchDispatchMode):
    """Numbers that are brought into another format."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].numel()
        return func(*args, **(kwargs or {}))


def test_no_weight_is_cast_when_a_scan_comes() -> None:
    network = trained("fpn_tiny_vit_5m_stem")
    made = lean(network, device=CPU, dtype=torch.bfloat16)
    pixels = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    counts = []
    for each in (network, made):
        with torch.no_grad(), autocast(CPU, torch.bfloat16):
            each.forward_features(pixels)
            with Casts() as casts:
                each.forward_features(pixels)
        counts.append(casts.count)
    weights = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert counts[1] + weights <= counts[0]


@pytest.mark.parametrize("load", [load_encoder, load_segmenter])
def test_whoever_takes_the_model_sees_what_becomes_of_it(load: object) -> None:
    made = load("bundled", device="cpu", precision="float32")  # type: ignore[operator]
    size = 192 if load is load_segmenter else made.input_size

    def answer() -> torch.Tensor:
        pixels = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
        if load is load_segmenter:
            return made.encode(pixels.numpy()).embedding  # type: ignore[no-any-return]
        return made.encode_image(pixels.expand(1, 3, size, size))  # type: ignore[no-any-return]

    before = answer()
    tower = made.model.vision_encoder if load is load_segmenter else made.model.visual
    torch.testing.assert_close(answer(), before, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        next(tower.parameters()).mul_(2)
    assert not torch.allclose(answer(), before, rtol=1e-3, atol=1e-4)


def test_a_gelu_by_the_tangent_stays_one() -> None:
    """It differs from the exact one by 5e-4, so that packing it as such would show."""
    network = nn.Sequential(nn.Linear(1, 1), nn.GELU(approximate="tanh"))
    with torch.no_grad():
        network[0].weight.fill_(1)
        network[0].bias.zero_()
    made = lean(network.eval(), device=CPU, dtype=torch.float32)
    x = torch.linspace(-3, 3, 61)[:, None]
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x), rtol=0, atol=1e-5)

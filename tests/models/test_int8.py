"""int8 weights: what is packed comes back, nearly; what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lexiseg.models import fpn  # noqa: F401  (its import makes architectures known to timm)
from lexiseg.models.weights.int8 import pack, pack_nibbles, unpack


def test_no_weight_is_off_by_more_than_half_a_step() -> None:
    weight = torch.randn(7, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] *= 1e-4
    weight[3] = 0
    whole, scale = pack(weight)
    assert whole.dtype == torch.int8 and whole.shape == weight.shape and scale.shape == (7,)
    state = {"a.weight": whole, "a.weight_scale": scale}
    unpack(state)
    assert list(state) == ["a.weight"]
    off = (state["a.weight"] - weight).flatten(1).abs().amax(1)
    assert bool((off <= 0.5001 * scale).all())
    assert bool((state["a.weight"][3] == 0).all())
    assert off.max() > 1e-3


def test_packed_again_it_stays() -> None:
    first = pack(torch.randn(4, 6))
    state = {"w": first[0], "w_scale": first[1]}
    unpack(state)
    second = pack(state["w"])
    assert torch.equal(first[0], second[0]) and torch.allclose(first[1], second[1])


def test_a_table_of_four_bits_comes_back_within_half_a_step() -> None:
    table = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    table[2] = 0
    whole, scale = pack_nibbles(table)
    assert whole.dtype == torch.uint8 and whole.shape == (6, 4)
    state = {"t": whole, "t_scale": scale}
    unpack(state)
    assert bool(((state["t"] - table).abs().amax(1) <= 0.5001 * scale).all())
    assert bool((state["t"][2] == 0).all())
    again = pack_nibbles(state["t"])
    assert torch.equal(again[0], whole) and torch.allclose(again[1], scale)


@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 2)])
def test_a_table_without_pairs_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="has no pairs"):
        pack_nibbles(torch.ones(shape))


def test_other_names_are_left_alone() -> None:
    whole, scale = pack(torch.ones(2, 2))
    state = {"a.w": whole, "a.w_scale": scale, "b.w": whole, "b.w_scale": scale}
    unpack(state, "a.")
    assert sorted(state) == ["a.w", "b.w", "b.w_scale"]


@pytest.mark.parametrize("scales", [0, 2])
def test_whole_numbers_without_their_scales_are_refused(scales: int) -> None:
    whole, scale = pack(torch.ones(3, 2))
    state = {"w": whole, "w_scale": scale[:scales]} if scales else {"w": whole}
    with pytest.raises(ValueError, match=r"w is int8 \(3, 2\); its scales are (none|\(2,\)), expected"):
        unpack(state)


def test_a_tower_loads_an_int8_checkpoint(tmp_path: Path) -> None:
    """Alone and inside of another module; names that it does not have stay an error."""
    torch.manual_seed(0)
    tower = timm.create_model("fpn_efficientnet_lite0", num_classes=8).eval()
    name = "backbone.blocks.6.0.conv_pw.weight"
    state = {k: v.clone() for k, v in tower.state_dict().items()}
    state[name], state[name + "_scale"] = pack(state[name])
    save_file(state, tmp_path / "tower.safetensors")
    again = timm.create_model("fpn_efficientnet_lite0", num_classes=8).eval()
    holder = torch.nn.ModuleDict({"tower": again})
    holder.load_state_dict({f"tower.{k}": v for k, v in load_file(tmp_path / "tower.safetensors").items()})
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        one, two = tower(pixels), again(pixels)
    assert torch.allclose(one, two, rtol=0.05, atol=0.02)
    assert not torch.equal(tower.state_dict()[name], again.state_dict()[name])
    with pytest.raises(RuntimeError, match="strange_scale"):
        again.load_state_dict({**tower.state_dict(), "backbone.strange_scale": torch.ones(1)})

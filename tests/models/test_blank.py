"""Networks that are built without drawing their weights."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from lexiseg.models import blank as blank_module
from lexiseg.models.blank import Blank, all_finite
from lexiseg.models.loading import load_encoder


def test_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with Blank():
        nn.Linear(3, 4)
        nn.Conv2d(3, 4, 3)
        nn.Embedding(5, 2)
        timm.create_model("vit_tiny_patch16_224")
    assert torch.equal(torch.get_rng_state(), state)
    nn.Linear(3, 4)
    assert not torch.equal(torch.get_rng_state(), state)


def test_what_is_computed_is_as_ever() -> None:
    names = ("tiny_vit_5m_224", "tf_efficientnet_lite0")
    with Blank():
        blank = [timm.create_model(name) for name in names]
    for found, name in zip(blank, names, strict=True):
        drawn = timm.create_model(name)
        tables = dict(drawn.named_buffers())
        assert tables
        for key, table in found.named_buffers():
            assert torch.equal(table, tables[key]), key


def test_a_table_is_computed_once_for_each_size_of_window(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    compute = blank_module._OFFSETS
    monkeypatch.setattr(blank_module, "_OFFSETS", lambda layer: (sizes.append(layer.resolution), compute(layer)))
    with Blank():
        timm.create_model("tiny_vit_5m_224")
    assert sorted(sizes) == [(7, 7), (14, 14)]


def test_loading_the_bundled_encoder_draws_nothing() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    load_encoder("bundled", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_truncated_normal_ends_on_any_memory() -> None:
    tensor = torch.full((64, 64), 1e9)
    with Blank():
        torch.nn.init.trunc_normal_(tensor, std=0.02, a=-0.04, b=0.04)
    assert not tensor.any()


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (3e38, True), (float("nan"), False), (float("inf"), False)])
def test_weights_are_finite_or_not(value: float, finite: bool) -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.weight[0, 0] = -value
    assert all_finite(layer) is finite

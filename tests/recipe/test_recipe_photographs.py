"""SAM 2's image encoder, out of what ONNX's exporter leaves of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from recipe.photographs import onnxruntime_arrays, sam2_trunk, see_through, taken_apart


def _summed(grid: Tensor, window: Tensor, size: int) -> Tensor:
    """The positions of an image of `size` patches a side, as SAM 2 and timm compute them."""
    wide = functional.interpolate(grid, size=(size, size), mode="bicubic")
    tiles = size // window.shape[-1]
    return wide + window.tile(1, 1, tiles, tiles)


def test_the_sum_of_positions_comes_apart_into_tables_with_the_same_sum_at_any_size() -> None:
    torch.manual_seed(0)
    grid, window = torch.randn(1, 5, 7, 7), torch.randn(1, 5, 8, 8)
    a, b = taken_apart(_summed(grid, window, 64))
    for size in (16, 64, 96):
        # The tables are solved for in float64 from a sum of about 5 that float32 rounded by 3e-7; what the solution
        # makes of that is the bound that it has itself, a ten-thousandth.
        assert torch.allclose(_summed(a, b, size), _summed(grid, window, size), atol=1e-4)


def test_positions_that_are_no_such_sum_are_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=re.escape("(1, 2, 32, 32) are no sum of a grid and a window")):
        taken_apart(torch.randn(1, 2, 32, 32))


def test_an_exported_trunk_is_named_as_timm_names_it() -> None:
    torch.manual_seed(0)
    trunk = timm.create_model("sam2_hiera_tiny", num_classes=0)
    wanted = {n: v for n, v in trunk.state_dict().items() if not n.startswith("head.")}
    others = ("model.sam_mask_decoder.conv_s0.weight", "/image_encoder/neck/Transpose_output_0")
    exported = {name: torch.zeros(2, 3) for name in others}
    for name, value in wanted.items():
        theirs = name.replace("fc1", "layers.0").replace("fc2", "layers.1")
        if name.startswith("pos_embed"):
            continue
        if value.ndim == 2:
            place = theirs.removesuffix(".weight").replace(".attn", "/attn").replace(".mlp", "/mlp")
            place = re.sub(r"(blocks\.\d+|attn|mlp)[./]", r"\1/", place)
            exported[f"/image_encoder/trunk/{place}/Transpose_output_0"] = value.T
        else:
            exported[f"model.image_encoder.trunk.{theirs}"] = value
    total = _summed(wanted["pos_embed"], wanted["pos_embed_window"], 64)
    exported["/image_encoder/trunk/Transpose_output_0"] = total
    found = sam2_trunk({name: value.numpy() for name, value in exported.items()})
    assert found.keys() == wanted.keys()
    positions = {"pos_embed", "pos_embed_window"}
    assert all(torch.equal(found[n], wanted[n]) for n in wanted.keys() - positions)
    assert torch.allclose(_summed(found["pos_embed"], found["pos_embed_window"], 64), total, atol=1e-5)


def test_a_first_layer_sees_other_pixels_as_it_saw_its_own() -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, 3).double()
    grey = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        before = first((grey - mean) / std)
        see_through(first, 0.25, 0.5)
        assert torch.allclose(first((grey - 0.25) / 0.5), before, rtol=0, atol=1e-6)  # mean and std are float32


def test_a_first_layer_without_a_bias_is_refused() -> None:
    with pytest.raises(ValueError, match="no bias"):
        see_through(nn.Conv2d(3, 4, 3, bias=False), 0.25, 0.5)


def test_what_reads_the_format_is_named_where_it_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"some\.ort is read with .* pip install onnxruntime"):
        onnxruntime_arrays(tmp_path / "some.ort")

"""An encoder before its training, as a section of the recipe says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from recipe.encoder import build
from recipe.train import CONFIG

TINY: dict[str, Any] = {
    "mean": 0.25, "std": 0.25, "embed_dim": 24, "image_size": 64, "image_tower": "fpn_sam2_hiera_tiny",
    "init_logit_scale": 2.3, "init_logit_bias": -4.0,
    "text": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip


def attentions(**changes: Any) -> tuple[Any, list[bool]]:
    """The encoder of a tiny section, and of each attention whether it is torch's fused one."""
    torch.manual_seed(0)
    model: Any = build({**TINY, **changes}).eval()
    return model, [part.fused_attn for part in model.visual.modules() if hasattr(part, "fused_attn")]


def test_attention_as_plain_products_computes_the_same() -> None:
    (fused, before), (plain, after) = attentions(), attentions(fused_attention=False)
    assert len(before) == len(after) > 0
    assert all(before)
    assert not any(after)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.inference_mode():
        found, expected = (model.double().encode_image(pixels) for model in (plain, fused))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("part, fused", [("encoder", True), ("second", True), ("third", False)])
def test_the_recipe_asks_for_it_where_it_pays(part: str, fused: bool) -> None:
    assert yaml.safe_load(CONFIG.read_text())[part].get("fused_attention", True) is fused

"""SAM's attention, a row of positions at a time, against transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import SamConfig, SamModel, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionSdpaAttention

from lexiseg.models.segmenters import sam_attention
from lexiseg.models.segmenters.sam_attention import RowAttention, attend_by_rows

SMALL = {"hidden_size": 24, "num_attention_heads": 3, "image_size": 64, "patch_size": 8, "window_size": 4}


def both(window: int = 0) -> tuple[SamVisionSdpaAttention, RowAttention]:
    """The same random weights twice, in float64."""
    torch.manual_seed(0)
    theirs = SamVisionSdpaAttention(SamVisionConfig(**SMALL), window).double().eval()
    for name in ("rel_pos_h", "rel_pos_w"):
        torch.nn.init.normal_(getattr(theirs, name))
    ours = RowAttention(SamVisionConfig(**SMALL), window).double().eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_attention, "_LEAST", 1)


def features(batch: int = 2, side: int = 8) -> torch.Tensor:
    return torch.randn(batch, side, side, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_numbers_are_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both()
    with torch.inference_mode():
        expected = theirs(features())[0]
        monkeypatch.setattr(SamVisionSdpaAttention, "forward", lambda *_: pytest.fail("transformers' own was asked"))
        torch.testing.assert_close(ours(features())[0], expected, rtol=1e-11, atol=1e-11)


def test_in_bfloat16_it_is_nearer_to_the_exact_one_than_transformers() -> None:
    theirs, ours = (each.float() for each in both())
    with torch.inference_mode():
        exact = both()[0](features())[0].float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near, far = (each(features().float())[0].float() for each in (ours, theirs))
    # Values, their shares and the projection are rounded to 8 bits.
    assert (near - exact).norm() <= 2**-6 * exact.norm()
    assert (near - exact).norm() <= 1.1 * (far - exact).norm()


def test_a_gradient_takes_transformers_way() -> None:
    theirs, ours = both()
    torch.testing.assert_close(ours(features())[0], theirs(features())[0])
    assert ours(features().requires_grad_())[0].requires_grad


def test_a_model_keeps_its_weights_and_windows_too_small_to_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_attention, "_LEAST", 40)
    vision = {**SMALL, "num_hidden_layers": 2, "global_attn_indexes": [1], "output_channels": 8, "mlp_dim": 16}
    model = SamModel(SamConfig(vision_config=vision)).eval()
    names = list(model.state_dict())
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    asked: list[int] = []
    attend = sam_attention.attend
    monkeypatch.setattr(sam_attention, "attend", lambda *given: (asked.append(len(given[0])), attend(*given))[1])
    with torch.inference_mode():
        expected = model.vision_encoder(pixels).last_hidden_state
        attend_by_rows(model)
        found = model.vision_encoder(pixels).last_hidden_state
    assert asked == [3]
    assert list(model.state_dict()) == names
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

from __future__ import annotations

import numpy as np
import torch
from fake_saliency_encoder import FakeEncoder

from lexiseg.saliency.framing import frame_scan
from lexiseg.saliency.gradcam import GradCAM
from lexiseg.text.phrases import PhraseSet
from lexiseg.values.arrays import FloatArray


def test_against_the_chain_rule_by_hand(encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
    """S = cos(P^T mean(A), t): its gradient with respect to A is the same at every position, and closed."""
    (frame,) = frame_scan(scan.shape, size=32, fill=(0.4, 0.5, 0.6))  # type: ignore[arg-type]
    maps = encoder.top(encoder.bottom(frame.apply(scan)))[0].detach().double()
    text = encoder.vector("heart").double()
    projection = encoder.projection.double()
    pooled = maps.mean(dim=(1, 2)) @ projection
    unit = pooled / pooled.norm()
    by_pooled = (text - unit * (unit @ text)) / pooled.norm()
    weights = projection @ by_pooled / maps[0].numel()
    expected = torch.einsum("c,chw->hw", weights, maps)
    expected = frame.undo(expected).clamp_min(0)
    found = GradCAM().explain(encoder, scan, phrases)[1]
    assert found.map.max() == 1
    np.testing.assert_allclose(found.map, expected / expected.max(), atol=1e-5)


def test_one_forward_for_all_phrases(encoder: FakeEncoder, scan: FloatArray, phrases: list[PhraseSet]) -> None:
    found = GradCAM(layer="conv1").explain(encoder, scan, phrases)
    assert (encoder.activation_calls, encoder.image_calls, len(encoder.text_calls)) == (1, [], 1)
    assert {saliency.layer for saliency in found} == {"conv1"}

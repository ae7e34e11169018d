"""Grad-CAM++, LayerCAM and Recipro-CAM against their equations by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from towers import make_tower_folder

from lexiseg.errors import UsageError
from lexiseg.models.loading import load_encoder
from lexiseg.saliency.gradcam_kin import GradCAMPlusPlus, LayerCAM
from lexiseg.saliency.reciprocam import ReciproCAM, position_masks
from lexiseg.text.embedding import PhraseEmbedding


@pytest.fixture(scope="module", params=["CLIP ResNet", "CLIP ViT"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = make_tower_folder(tmp_path_factory.mktemp("tower"), request.param)
    return load_encoder(str(folder), device="cpu", precision="float32")


@pytest.fixture(scope="module")
def asked(encoder: Any) -> tuple[torch.Tensor, list[PhraseEmbedding]]:
    view = torch.rand(1, 3, encoder.input_size, encoder.input_size, generator=torch.Generator().manual_seed(0))
    texts = encoder.encode_text(["left lung", "breast tumor"])
    return view, [PhraseEmbedding(name, text, texts[:0]) for name, text in zip("ab", texts, strict=True)]


def gradients(encoder: Any, view: torch.Tensor, phrase: PhraseEmbedding) -> tuple[np.ndarray, np.ndarray]:
    maps, found = encoder.activations(view, encoder.default_layer(), lambda e: e @ phrase.positive[:, None])
    return maps.double().numpy(), found[0].double().numpy()


def test_gradcam_plus_plus(encoder: Any, asked: Any) -> None:
    view, phrases = asked
    ours = GradCAMPlusPlus().compute_maps(encoder, view, phrases, lambda share: None).maps.numpy()
    for n, phrase in enumerate(phrases):
        maps, g = gradients(encoder, view, phrase)
        expected = np.zeros(maps.shape[1:])
        for c in range(len(maps)):
            below = 2 * g[c] ** 2 + maps[c].sum() * g[c] ** 3
            alpha = np.divide(g[c] ** 2, below, out=np.zeros_like(below), where=below != 0)
            expected += (alpha * np.maximum(g[c], 0)).sum() * maps[c]
        # A denominator near 0 makes a weight large: the tolerance follows the map's own size.
        assert np.allclose(ours[n], expected, atol=1e-3 * np.abs(expected).max())


def test_layercam(encoder: Any, asked: Any) -> None:
    view, phrases = asked
    ours = LayerCAM().compute_maps(encoder, view, phrases, lambda share: None).maps.numpy()
    for n, phrase in enumerate(phrases):
        maps, g = gradients(encoder, view, phrase)
        expected = sum(np.maximum(g[c], 0) * maps[c] for c in range(len(maps)))
        assert np.allclose(ours[n], expected, atol=1e-6)
    assert not np.allclose(ours[0], ours[1])


def test_reciprocam(encoder: Any, asked: Any) -> None:
    view, phrases = asked
    raw = ReciproCAM(batch=3).compute_maps(encoder, view, phrases, lambda share: None)
    seen: list[torch.Tensor] = []
    with encoder.patched(raw.layer, lambda features: seen.append(features) or features):
        encoder.encode_image(view)
    features = seen[0].detach()
    height, width = raw.maps.shape[1:]
    place = (height - 1, 0)  # a corner, where the kernel is cut
    kept = features.clone()
    if features.ndim == 4:
        kept = torch.zeros_like(features)
        kept[0, :, -1, 0] = features[0, :, -1, 0]
        kept[0, :, -2, 0], kept[0, :, -1, 1] = features[0, :, -2, 0] / 2, features[0, :, -1, 1] / 2
        kept[0, :, -2, 1] = features[0, :, -2, 1] / 4
    else:
        grid = features[0, 1:].reshape(height, width, -1)
        shown = torch.zeros_like(grid)
        shown[-1, 0], shown[-2, 0], shown[-1, 1] = grid[-1, 0], grid[-2, 0] / 2, grid[-1, 1] / 2
        shown[-2, 1] = grid[-2, 1] / 4
        kept[0, 1:] = shown.reshape(height * width, -1)
    expected = encoder.forward_from(raw.layer, kept)[0] @ phrases[1].positive
    assert float(raw.maps[1][place]) == pytest.approx(float(expected), abs=1e-5)
    assert not torch.allclose(raw.maps[0], raw.maps[1], atol=1e-4)


def test_the_class_token_stays() -> None:
    masks, grid = position_masks(torch.zeros(1, 10, 4))
    assert (masks.shape, grid) == ((9, 10, 1), (3, 3))
    assert bool((masks[:, 0] == 1).all())
    assert masks[4, 1:, 0].reshape(3, 3).tolist() == [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    with pytest.raises(UsageError, match="batch is 0"):
        ReciproCAM(batch=0)

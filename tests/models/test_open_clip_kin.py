"""CoCa and SigLIP as open_clip writes them, and folders that hold something else than one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import make_sam_pth
from mobile_sam_file import make_mobile_sam_pt
from towers import KIN, make_kin_folder

from lexiseg.errors import UnknownModel
from lexiseg.models.loading import load_encoder, load_segmenter


@pytest.mark.parametrize("kind", KIN)
def test_embeddings_are_open_clips(tmp_path: Path, kind: str) -> None:
    model = make_kin_folder(tmp_path / kind, kind)
    encoder: Any = load_encoder(str(tmp_path / kind), device="cpu", precision="float32")
    side = encoder.input_size
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ([0.3, 0.4, 0.5], [0.2, 0.3, 0.4]))
    phrases = ["left lung", "breast tumor"]
    with torch.no_grad():
        images = model.encode_image((pixels - mean) / std, normalize=True)
        texts = model.encode_text(encoder.tokenizer(phrases), normalize=True)
    assert torch.allclose(encoder.encode_image(pixels), images, atol=1e-5)
    assert torch.allclose(encoder.encode_text(phrases), texts, atol=1e-5)
    assert not torch.allclose(images[0], images[1], atol=1e-3)
    assert encoder.logit_bias == (0 if kind == "CoCa" else -10)
    maps, gradients = encoder.activations(pixels[:1], encoder.default_layer(), lambda e: e @ texts.T[:, :1])
    assert maps.shape[1:] == gradients.shape[2:]


class TestFoldersOfCheckpoints:
    def said(self, place: Path) -> str:
        with pytest.raises(UnknownModel) as raised:
            load_segmenter(str(place), device="cpu")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def test_two_models(self, tmp_path: Path) -> None:
        make_sam_pth(tmp_path / "sam_vit_b.pth", size="tiny")
        make_mobile_sam_pt(tmp_path / "mobile_sam.pt")
        said = self.said(tmp_path)
        assert "holds mobile_sam.pt, sam_vit_b.pth: name one of these files instead of the folder" in said

    def test_one_under_its_own_name(self, tmp_path: Path) -> None:
        make_sam_pth(tmp_path / "sam_vit_b.pth", size="tiny")
        assert "holds sam_vit_b.pth: name this file instead of the folder" in self.said(tmp_path)

    def test_a_configuration_without_weights(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr"}))
        assert "it has config.json of model_type 'detr' and no weights; known: " in self.said(tmp_path)

"""The published sizes with random weights: BiomedCLIP, SAM ViT-B in both layouts.

They need 6 GB of memory and 2 GB of disk and take about a minute.  LEXISEG_FULLSIZE=0 leaves them out,
LEXISEG_FULLSIZE=1 also encodes a scan with SAM ViT-B in both layouts, which takes a minute more.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_biomedclip_folder, make_sam_folder, make_sam_pth

from lexiseg.models.loading import load_encoder, load_segmenter
from lexiseg.models.segmenters.sam import SamImage

WISH = os.environ.get("LEXISEG_FULLSIZE", "")


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


pytestmark = [
    pytest.mark.fullsize,
    pytest.mark.usefixtures("unplugged"),
    pytest.mark.skipif(WISH == "0", reason="LEXISEG_FULLSIZE=0"),
    pytest.mark.skipif(not WISH and _free_memory() < 6e9, reason="less than 6 GB of memory free"),
    pytest.mark.skipif(not WISH and shutil.disk_usage(Path.cwd()).free < 4e9, reason="less than 4 GB of disk free"),
]


def test_biomedclip(tmp_path: Path) -> None:
    folder = make_biomedclip_folder(tmp_path / "biomedclip")
    encoder = load_encoder(str(folder), device="cpu")
    shutil.rmtree(folder)
    assert sum(p.numel() for p in encoder.model.parameters()) == 195_902_721
    assert (encoder.input_size, encoder.default_layer()) == (224, "trunk.blocks.11.norm1")
    text = encoder.encode_text(["breast tumor", "left lung"])
    assert text.shape == (2, 512)
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert encoder.encode_dense(pixels).shape == (1, 512, 14, 14)
    maps, gradients = encoder.activations(pixels, encoder.default_layer(), lambda z: (z @ text.T)[0])
    assert maps.shape == (768, 14, 14)
    assert gradients is not None
    assert bool((gradients.abs().sum(dim=1) > 0).all())


def test_sam_vit_b_in_both_layouts(tmp_path: Path) -> None:
    folder, file = make_sam_folder(tmp_path / "sam"), make_sam_pth(tmp_path / "sam_vit_b.pth")
    segmenters = [load_segmenter(str(ref), device="cpu", precision="float32") for ref in (folder, file)]
    shutil.rmtree(folder)
    file.unlink()
    states = [segmenter.model.state_dict() for segmenter in segmenters]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    scan = np.random.default_rng(0).random((300, 400), dtype=np.float32)
    if WISH == "1":
        images = [segmenter.encode(scan) for segmenter in segmenters]
    else:
        embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(0))
        images = [SamImage((300, 400), embedding, (768, 1024))] * 2
    boxes = np.array([[20.0, 30.0, 200.0, 250.0], [0.0, 0.0, 400.0, 300.0]], np.float32)
    masks = [
        segmenter.upsample(segmenter.decode(image, boxes=boxes, multimask=True).logits, image) > 0
        for segmenter, image in zip(segmenters, images, strict=True)
    ]
    assert masks[0].shape == (2, 3, 300, 400)
    assert torch.equal(masks[0], masks[1])
    assert 0.01 < float(masks[0].float().mean()) < 0.99

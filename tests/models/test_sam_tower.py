"""SAM with a timm network for its eyes: saved and loaded, prompted, and never taken for a plain one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lexiseg.errors import BrokenWeights
from lexiseg.models.loading import load_segmenter
from lexiseg.models.segmenters.sam_folder import TowerSam, TowerSamConfig
from lexiseg.models.weights.int8 import SCALE, pack

CONFIG: dict[str, Any] = {
    "vision_config": {
        "image_tower": "fpn_tiny_vit_5m_stem", "image_size": 64, "patch_size": 8, "output_channels": 16,
        "num_pos_feats": 8, "hidden_size": 8, "num_hidden_layers": 0,
    },
    "prompt_encoder_config": {
        "hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8,
    },
    "mask_decoder_config": {
        "hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> TowerSam:
    torch.manual_seed(0)
    return TowerSam(TowerSamConfig(**CONFIG)).eval()


@pytest.fixture
def folder(model: TowerSam, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path)
    return tmp_path


def test_the_tower_gives_what_the_decoder_takes(model: TowerSam) -> None:
    with torch.no_grad():
        embedded = model.get_image_embeddings(torch.rand(2, 3, 64, 64))
    assert embedded.shape == (2, 16, 8, 8)
    assert model.get_image_wide_positional_embeddings().shape == (1, 16, 8, 8)


def test_a_saved_one_answers_as_before(model: TowerSam, folder: Path) -> None:
    pixels = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    segmenter: Any = load_segmenter(str(folder), device="cpu", precision="float32")
    box = np.array([[8, 12, 40, 50]], np.float32)
    ours = segmenter.decode(segmenter.encode(pixels), boxes=box).logits
    prepared = segmenter._processor(
        images=torch.from_numpy(pixels).expand(3, -1, -1), do_rescale=False, do_convert_rgb=False,
        input_data_format="channels_first", return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        theirs = model(
            pixel_values=prepared["pixel_values"], input_boxes=torch.from_numpy(box)[None],
            multimask_output=False,
        ).pred_masks[0]  # fmt: skip
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_transformers_loads_it_by_its_class(model: TowerSam, folder: Path) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    loaded = TowerSam.from_pretrained(folder).eval()
    assert loaded.config.vision_config.image_tower == "fpn_tiny_vit_5m_stem"
    assert torch.equal(loaded.get_image_embeddings(pixels), model.get_image_embeddings(pixels))


def test_int8_weights_are_read_by_both(model: TowerSam, folder: Path) -> None:
    name = "vision_encoder.tower.out.0.0.weight"
    state = load_file(folder / "model.safetensors")
    state[name], state[name + SCALE] = pack(state[name])
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    ours = load_segmenter(str(folder), device="cpu", precision="float32")
    theirs = TowerSam.from_pretrained(folder)
    kept = model.state_dict()[name]
    for loaded in (cast(Any, ours).model.state_dict()[name], theirs.state_dict()[name]):
        assert loaded.dtype == torch.float32 and not torch.equal(loaded, kept)
        assert torch.allclose(loaded, kept, atol=kept.abs().max().item() / 250)
    del state[name + SCALE]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenWeights, match="its scales are none"):
        load_segmenter(str(folder), device="cpu", precision="float32")


def test_it_is_not_read_as_a_plain_sam(folder: Path) -> None:
    """With its tower ignored, transformers would draw a random image encoder and say nothing."""
    from transformers import AutoModel

    assert json.loads((folder / "config.json").read_text())["model_type"] == "sam_tower"
    with pytest.raises(ValueError, match="sam_tower"):
        AutoModel.from_pretrained(folder)


def test_a_folder_saved_when_an_fpn_was_called_a_pyramid(folder: Path) -> None:
    pixels = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    now = load_segmenter(str(folder), device="cpu", precision="float32").encode(pixels)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["image_tower"] = "pyramid_tiny_vit_5m_stem"
    path.write_text(json.dumps(config))
    then = load_segmenter(str(folder), device="cpu", precision="float32").encode(pixels)
    assert torch.equal(cast(Any, then).embedding, cast(Any, now).embedding)


def test_a_tower_that_nobody_knows_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["image_tower"] = "fpn_of_giza"
    path.write_text(json.dumps(config))
    with pytest.raises(BrokenWeights, match="fpn_of_giza"):
        load_segmenter(str(folder), device="cpu")

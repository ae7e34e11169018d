"""SAM's weights that are damaged, of another model, or no weights at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints import make_sam_pth
from safetensors.torch import load_file, save_file

from lexiseg.errors import BrokenWeights, UnknownModel
from lexiseg.models.loading import load_segmenter


class TestBrokenWeights:
    def test_truncated_safetensors(self, sam_copy: Path) -> None:
        path = sam_copy / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(BrokenWeights, match=r"model\.safetensors"):
            load_segmenter(str(sam_copy), device="cpu")

    @pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan"])
    def test_weights_that_do_not_fit(self, sam_copy: Path, change: str) -> None:
        path = sam_copy / "model.safetensors"
        state = load_file(path)
        key = "vision_encoder.neck.conv1.weight"
        if change == "missing":
            del state[key]
        elif change == "unexpected":
            state["vision_encoder.extra.weight"] = torch.zeros(1)
        elif change == "shape":
            state[key] = state[key][:-1].contiguous()
        else:
            state[key][0] = torch.nan
        save_file(state, path)
        with pytest.raises(BrokenWeights) as error:
            load_segmenter(str(sam_copy), device="cpu")
        assert "\n" not in str(error.value)

    def test_truncated_pth(self, sam_pth: Path, tmp_path: Path) -> None:
        (tmp_path / "cut.pth").write_bytes(sam_pth.read_bytes()[:5000])
        with pytest.raises(BrokenWeights, match=r"cut\.pth"):
            load_segmenter(str(tmp_path / "cut.pth"), device="cpu")

    def test_a_pth_with_a_tensor_missing(self, tmp_path: Path) -> None:
        path = make_sam_pth(tmp_path / "sam.pth", size="tiny")
        state = torch.load(path, weights_only=True)
        del state["mask_decoder.iou_token.weight"]
        torch.save(state, path)
        with pytest.raises(BrokenWeights, match="iou_token"):
            load_segmenter(str(path), device="cpu")

    def test_a_pth_of_another_model(self, tmp_path: Path) -> None:
        torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
        with pytest.raises(UnknownModel, match=r"first keys are conv1\.weight; known: .*SAM \("):
            load_segmenter(str(tmp_path / "resnet.pth"), device="cpu")

    def test_code_in_a_pth_is_not_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return Path.touch, (tmp_path / "ran",)

        torch.save({"model": Trap()}, tmp_path / "trap.pth")
        with pytest.raises(BrokenWeights):
            load_segmenter(str(tmp_path / "trap.pth"), device="cpu")
        assert not (tmp_path / "ran").exists()

    def test_another_model_type(self, sam_copy: Path) -> None:
        config = json.loads((sam_copy / "config.json").read_text())
        (sam_copy / "config.json").write_text(json.dumps({**config, "model_type": "sam9"}))
        with pytest.raises(UnknownModel, match="sam9"):
            load_segmenter(str(sam_copy), device="cpu")

    def test_a_processor_for_another_size(self, sam_copy: Path) -> None:
        path = sam_copy / "preprocessor_config.json"
        settings = json.loads(path.read_text())
        settings["pad_size"] = {"height": 1024, "width": 1024}
        path.write_text(json.dumps(settings))
        with pytest.raises(BrokenWeights, match="1024"):
            load_segmenter(str(sam_copy), device="cpu")

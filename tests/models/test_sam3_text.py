"""SAM 3 that reads the phrase: against transformers' own forward, from both layouts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sam3_files
import torch
from safetensors.torch import load_file, save_file

from lexiseg.errors import BadPhrase, BrokenWeights, UnknownModel, UnsupportedByModel
from lexiseg.models.loading import load_segmenter, load_text_segmenter
from lexiseg.models.protocols import Segmenter, TextSegmenter

PHRASES = ["left lung", "breast tumor"]
SCAN = np.random.default_rng(0).random((40, 56), dtype=np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("sam3")
    return {whole: sam3_files.make_folder(root / str(whole), whole=whole) for whole in (False, True)}


def load(folder: Path) -> Any:
    return load_text_segmenter(str(folder), device="cpu", precision="float32")


@pytest.fixture(scope="module")
def whole(folders: dict[bool, Path]) -> Any:
    return load(folders[True])


def theirs(folder: Path, phrase: str) -> tuple[Any, Any]:
    """transformers' own outputs, and its own post-processing, of a detector that lies in the folder."""
    from transformers import AutoTokenizer, Sam3ImageProcessor

    model = sam3_files.make_model(whole=json.loads((folder / "config.json").read_text())["model_type"] != "sam3")
    detector = getattr(model, "detector_model", model)
    square = torch.nn.functional.interpolate(
        torch.from_numpy(SCAN)[None, None], (112, 112), mode="bilinear", align_corners=False, antialias=True
    )
    text = AutoTokenizer.from_pretrained(folder)(phrase, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        found = detector(
            pixel_values=(square.expand(-1, 3, -1, -1) - 0.5) / 0.5,
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
    answer = Sam3ImageProcessor().post_process_instance_segmentation(found, threshold=-1.0, target_sizes=[SCAN.shape])
    return found, answer[0]


@pytest.mark.parametrize("both", [False, True])
def test_the_forward_is_transformers(folders: dict[bool, Path], both: bool) -> None:
    segmenter = load(folders[both])
    assert isinstance(segmenter, TextSegmenter) and isinstance(segmenter, Segmenter)
    for phrase, ours in zip(PHRASES, segmenter.find(SCAN, PHRASES), strict=True):
        raw, answer = theirs(folders[both], phrase)
        torch.testing.assert_close(ours.logits, raw.pred_masks[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.scores, answer["scores"], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.boxes, answer["boxes"], atol=1e-3, rtol=0)
        assert ours.presence == pytest.approx(float(raw.presence_logits.sigmoid()), abs=1e-5)
        drawn = segmenter.probabilities(ours, range(5))
        assert drawn.shape == (5, *SCAN.shape)
        sure = np.abs(drawn - 0.5) > 1e-4
        assert np.array_equal((drawn > 0.5)[sure], (answer["masks"].numpy() > 0)[sure])
    assert not torch.equal(*(each.scores for each in segmenter.find(SCAN, PHRASES)))


def test_the_tracker_beside_it_answers_boxes(folders: dict[bool, Path], whole: Any) -> None:
    alone: Any = load_segmenter(str(folders[True]), device="cpu", precision="float32")
    box = np.array([[3, 4, 30, 30]], np.float32)
    answers = [each.decode(each.encode(SCAN), boxes=box).logits for each in (alone, whole)]
    assert torch.equal(*answers)
    assert whole.takes_masks


def test_a_detector_alone_says_what_it_lacks(folders: dict[bool, Path]) -> None:
    segmenter = load(folders[False])
    with pytest.raises(UnsupportedByModel, match="boxes and clicks need its tracker"):
        segmenter.encode(SCAN)
    assert not segmenter.takes_masks
    assert segmenter.probabilities(segmenter.find(SCAN, PHRASES)[0], []).shape == (0, *SCAN.shape)


def test_a_long_phrase(whole: Any) -> None:
    with pytest.raises(BadPhrase, match=r"reads 16 tokens, and the phrase 'left lung left.*has 22"):
        whole.find(SCAN, ["left lung " * 10])


class TestRefusals:
    def test_what_reads_no_text(self, tmp_path: Path) -> None:
        import sam2_files

        folder = sam2_files.make_folder(tmp_path / "sam2", "Sam2")
        with pytest.raises(UnknownModel) as raised:
            load(folder)
        said = str(raised.value)
        assert "is no text segmenter that lexiseg knows: it has config.json of model_type 'sam2'" in said
        assert "known: SAM 3 (config.json of model_type 'sam3' or 'sam3_video')" in said and "\n" not in said

    def test_no_tokenizer(self, folders: dict[bool, Path], tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            (tmp_path / name).write_bytes((folders[False] / name).read_bytes())
        with pytest.raises(BrokenWeights, match="has no tokenizer"):
            load(tmp_path)

    def test_a_tensor_is_missing(self, folders: dict[bool, Path], tmp_path: Path) -> None:
        for file in folders[True].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        state = load_file(tmp_path / "model.safetensors")
        del state["detector_model.text_projection.bias"]
        save_file(state, tmp_path / "model.safetensors")
        with pytest.raises(BrokenWeights, match="does not fit its configuration"):
            load(tmp_path)

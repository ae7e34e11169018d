"""A student of the bundled encoder: read back from what differs, and refused where it does not belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lexiseg.errors import BrokenWeights, UnknownPreset
from lexiseg.models.loading import load_encoder
from lexiseg.models.weights.records import bundled_folder, weights_info, write_record
from lexiseg.pipelines.medclip_sam import MedclipSam
from lexiseg.pipelines.preset import load_preset

NAME = "visual.trunk.towers.0.classifier.0.bias"
PRESET = {"pipeline": "medclip-sam", "segmenter": "bundled", "presence": {"threshold": 0.4}}


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_encoder("bundled", device="cpu", precision="float32")


@pytest.fixture
def student(bundled: Any, tmp_path: Path) -> Path:
    """A folder in which one bias is another."""
    tuned = bundled.model.state_dict()[NAME] + 1
    return _write(tmp_path / "tuned", {NAME: tuned.contiguous()})


def _write(folder: Path, tensors: dict[str, torch.Tensor], **changes: Any) -> Path:
    folder.mkdir()
    sha256 = weights_info("bundled", bundled_folder("encoder") / "open_clip_model.safetensors").sha256
    config = {
        "format": "lexiseg-student", "version": 1, "network": "towers", "names": ["lungs"],
        "start": {"sha256": sha256}, "preset": PRESET, **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    write_record(folder)
    return folder


class TestLoading:
    def test_what_was_tuned_is_in_it_and_the_rest_is_as_it_ships(self, bundled: Any, student: Path) -> None:
        found: Any = load_encoder(str(student), device="cpu", precision="float32")
        own, shipped = found.model.state_dict(), bundled.model.state_dict()
        assert {name for name in own if not torch.equal(own[name], shipped[name])} == {NAME}
        torch.testing.assert_close(own[NAME], shipped[NAME] + 1, atol=0, rtol=0)
        assert found.weights.name == str(student)
        assert found.weights.sha256 != bundled.weights.sha256

    def test_it_knows_the_words_that_the_bundled_one_knows(self, student: Path) -> None:
        encoder: Any = load_encoder(str(student), device="cpu")
        pipeline = MedclipSam(load_preset("demo"), encoder, None)  # type: ignore[arg-type]
        assert pipeline.vocabulary is not None
        assert pipeline.kinds is None

    def test_one_of_other_bundled_weights(self, tmp_path: Path) -> None:
        folder = _write(tmp_path / "old", {NAME: torch.zeros(256)}, start={"sha256": "0" * 64})
        with pytest.raises(BrokenWeights, match="begun from bundled weights 000000000000, this lexiseg ships"):
            load_encoder(str(folder), device="cpu")

    @pytest.mark.parametrize(
        ("tensors", "words"),
        [
            ({"visual.trunk.other": torch.zeros(2)}, "visual.trunk.other does not fit"),
            ({NAME: torch.zeros(3)}, "does not fit"),
            ({NAME: torch.full((256,), torch.nan)}, "is not finite"),
        ],
    )
    def test_tensors_that_are_none_of_its(self, tensors: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
        with pytest.raises(BrokenWeights, match=words):
            load_encoder(str(_write(tmp_path / "wrong", tensors)), device="cpu")

    def test_a_changed_file(self, student: Path) -> None:
        path = student / "model.safetensors"
        tensors = {name: value + 1 for name, value in load_file(path).items()}
        save_file(tensors, path)
        with pytest.raises(BrokenWeights, match="sha256 is not the recorded one"):
            load_encoder(str(student), device="cpu")


class TestPreset:
    def test_its_folder_is_a_preset(self, student: Path) -> None:
        found = load_preset(student, presence={"threshold": 0.6})
        assert (found.name, found.encoder, found.segmenter) == ("tuned", str(student), "bundled")
        assert found["presence"].threshold == 0.6
        assert load_preset(str(student))["presence"].threshold == 0.4

    def test_the_page_offers_it(self, student: Path) -> None:
        pytest.importorskip("fastapi", reason="the page needs lexiseg[serve]")
        from lexiseg.serve.models import Models

        models = Models(str(student), device="cpu")
        assert "tuned" in models.presets
        assert models.presets["tuned"].encoder == str(student)

    def test_a_u_net_reads_no_phrase(self, tmp_path: Path) -> None:
        folder = _write(tmp_path / "unet", {NAME: torch.zeros(1)}, network="unet")
        with pytest.raises(UnknownPreset, match="is a U-Net, which reads no phrase"):
            load_preset(folder)

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(UnknownPreset, match="no student's folder"):
            load_preset(tmp_path)

    def test_a_damaged_one(self, student: Path) -> None:
        (student / "config.json").write_text("{")
        with pytest.raises(UnknownPreset, match="cannot be read"):
            load_preset(student)

"""Which family a model belongs to, and what is said of one that belongs to none."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from towers import make_tower_folder

from lexiseg.errors import BrokenWeights, UnknownModel, UnsupportedByModel
from lexiseg.models.encoders.open_clip import OpenClipEncoder, require_open_clip
from lexiseg.models.families import FAMILIES, ModelFiles
from lexiseg.models.fpn import FORMER_NAMES, current_name
from lexiseg.models.loading import load_encoder, load_segmenter
from lexiseg.models.weights.status import check_model


class TestANewFamily:
    """One module and one line: all that SAM 2, MobileSAM or SAM-HQ would need."""

    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[ModelFiles, torch.device, str]]:
        calls: list[tuple[ModelFiles, torch.device, str]] = []
        module = ModuleType("another_family")

        def load(files: ModelFiles, *, device: torch.device, precision: str) -> str:
            calls.append((files, device, precision))
            return "another segmenter"

        module.NAME = "another (model_type 'sam2')"
        module.recognises = lambda files: files.config.get("model_type") == "sam2" or "sam_mask_decoder.x" in files.keys
        module.load = load
        monkeypatch.setitem(sys.modules, "another_family", module)
        monkeypatch.setitem(FAMILIES, "segmenter", ("another_family", *FAMILIES["segmenter"]))
        return calls

    def test_its_folders_and_files_are_loaded_by_it(self, loaded: list, sam_copy: Path, tmp_path: Path) -> None:
        config = json.loads((sam_copy / "config.json").read_text())
        (sam_copy / "config.json").write_text(json.dumps({**config, "model_type": "sam2"}))
        torch.save({"model": {"sam_mask_decoder.x": torch.zeros(2)}}, tmp_path / "sam2.pt")
        for place in (sam_copy, tmp_path / "sam2.pt"):
            assert load_segmenter(str(place), device="cpu", precision="bfloat16") == "another segmenter"
            files, device, precision = loaded.pop()
            assert (files.ref, files.path) == (str(place), place)
            assert (device, precision) == (torch.device("cpu"), "bfloat16")

    def test_the_others_are_left_to_the_next(self, loaded: list, sam: Path, sam_pth: Path) -> None:
        assert load_segmenter(str(sam), device="cpu").name == str(sam)
        assert load_segmenter(str(sam_pth), device="cpu").name == str(sam_pth)
        assert not loaded

    def test_it_is_imported_when_its_turn_comes(self, sam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(FAMILIES, "segmenter", (*FAMILIES["segmenter"], "no_such_module"))
        load_segmenter(str(sam), device="cpu")
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            load_segmenter(str(sam.parent / "biomedclip"), device="cpu")


class TestRefusals:
    def said(self, load: object, place: Path) -> str:
        with pytest.raises(UnknownModel) as error:
            load(str(place), device="cpu")  # type: ignore[operator]
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_a_folder_of_another_type(self, sam_copy: Path) -> None:
        config = json.loads((sam_copy / "config.json").read_text())
        (sam_copy / "config.json").write_text(json.dumps({**config, "model_type": "sam9"}))
        said = self.said(load_segmenter, sam_copy)
        assert f"{sam_copy} is no segmenter that lexiseg knows: it has config.json of model_type 'sam9'" in said
        assert "and keys like mask_decoder." in said
        assert "; known: " in said
        assert said.endswith("SAM (config.json of model_type 'sam' or 'sam_tower'; a sam_vit_*.pth)")

    def test_an_encoder_where_a_segmenter_is_wanted(self, biomedclip: Path) -> None:
        said = self.said(load_segmenter, biomedclip)
        assert "it has no config.json and keys like " in said

    def test_a_segmenter_where_an_encoder_is_wanted(self, sam: Path) -> None:
        assert "known: open_clip (open_clip_config.json" in self.said(load_encoder, sam)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_file_of_either_format_of_torch(self, tmp_path: Path, zipped: bool) -> None:
        state = {f"layer{index}.weight": torch.zeros(3) for index in range(5)}
        torch.save({"state_dict": state}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        said = self.said(load_segmenter, tmp_path / "x.pth")
        assert "a file whose first keys are layer0.weight, layer1.weight, layer2.weight, ...;" in said

    def test_a_safetensors_file(self, tmp_path: Path) -> None:
        save_file({"only": torch.zeros(3)}, tmp_path / "x.safetensors")
        assert "first keys are only;" in self.said(load_segmenter, tmp_path / "x.safetensors")

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
    def test_a_file_that_holds_no_tensors(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(BrokenWeights, match=r"x\.pth is not a checkpoint of tensors") as error:
            load_segmenter(str(tmp_path / "x.pth"), device="cpu")
        assert "\n" not in str(error.value)

    def test_nobody_is_told_to_load_what_holds_code(self, tmp_path: Path) -> None:
        torch.save({"state_dict": Path("/")}, tmp_path / "x.pth")
        with pytest.raises(BrokenWeights, match="more than tensors, which is never loaded") as error:
            load_segmenter(str(tmp_path / "x.pth"), device="cpu")
        assert "weights_only" not in str(error.value)

    def test_a_record_names_no_file_outside_its_folder(self, sam_copy: Path) -> None:
        for name in ("../x", "/etc/hostname"):
            (sam_copy / "lexiseg_weights.json").write_text(json.dumps({"files": {name: "0"}}))
            with pytest.raises(BrokenWeights, match="no file of the folder"):
                check_model(str(sam_copy))

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_a_configuration_that_is_none(self, sam_copy: Path, content: str) -> None:
        (sam_copy / "config.json").write_text(content)
        with pytest.raises(BrokenWeights, match=r"config\.json"):
            load_segmenter(str(sam_copy), device="cpu")

    def test_a_folder_without_weights(self, sam_copy: Path) -> None:
        (sam_copy / "model.safetensors").unlink()
        with pytest.raises(BrokenWeights, match="has no weights: expected one of"):
            load_segmenter(str(sam_copy), device="cpu")

    def test_training_wants_a_model_of_open_clip(self, encoders: dict[str, OpenClipEncoder]) -> None:
        encoder = encoders["CLIP ViT"]
        assert require_open_clip(encoder) is encoder

        class Other:
            name = "other"

        with pytest.raises(UnsupportedByModel, match="other is a Other; expected a model of open_clip"):
            require_open_clip(Other())  # type: ignore[arg-type]


class TestFormerNames:
    """Folders that were saved when an FPN was called a pyramid."""

    def test_every_architecture_had_one(self) -> None:
        assert len(FORMER_NAMES) == 7
        assert current_name("pyramid_tiny_vit_5m_stem") == "fpn_tiny_vit_5m_stem"
        assert current_name("test_vit") == "test_vit"

    def test_an_encoder_is_read_and_a_line_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from towers import TOWERS

        vision = {"timm_model_name": "fpn_tiny_vit_5m_stem", "timm_model_pretrained": False, "timm_pool": "avg",
                  "timm_proj": "", "image_size": 64}  # fmt: skip
        monkeypatch.setitem(TOWERS, "FPN", vision)
        now = make_tower_folder(tmp_path / "now", "FPN")
        then = Path(shutil.copytree(now, tmp_path / "then"))
        config = json.loads((then / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "pyramid_tiny_vit_5m_stem"
        (then / "open_clip_config.json").write_text(json.dumps(config))
        with caplog.at_level(logging.INFO, logger="lexiseg"):
            old, new = (load_encoder(str(f), device="cpu", precision="float32") for f in (then, now))
        assert "names pyramid_tiny_vit_5m_stem, which is called fpn_tiny_vit_5m_stem now" in caplog.text
        pixels = torch.rand(1, 3, 64, 64)
        assert torch.equal(old.encode_image(pixels), new.encode_image(pixels))
        # its last map is all that its head needs
        seen: list[torch.Tensor] = []
        with new.patched(new.default_layer(), lambda maps: seen.append(maps) or maps):  # type: ignore[func-returns-value]
            whole = new.encode_image(pixels)
        assert torch.allclose(new.forward_from(new.default_layer(), seen[0]), whole, atol=1e-6)

"""Names, broken folders, devices, checksums and the list of models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from towers import make_tower_folder

from lexiseg.errors import BrokenWeights, LexisegError, UnavailableDevice, UnknownModel, UsageError
from lexiseg.models.encoders.open_clip_folder import is_rekeyed, to_open_clip
from lexiseg.models.loading import load_encoder, load_segmenter, resolve_device, resolve_precision
from lexiseg.models.weights.records import KNOWN_MODELS, write_record
from lexiseg.models.weights.status import check_model, list_models


class TestNames:
    @pytest.mark.parametrize("ref", ["", "nosuch", "local-dir:/nowhere", "hf-hub:broken", "a/b/c", "RN50:nosuchtag"])
    def test_unknown_encoders(self, ref: str) -> None:
        with pytest.raises(UnknownModel) as error:
            load_encoder(ref, device="cpu", offline=True)
        assert "\n" not in str(error.value)

    def test_an_architecture_without_its_weights_is_no_noise(self) -> None:
        with pytest.raises(LexisegError, match="not on this machine"):
            load_encoder("RN50:openai", device="cpu", offline=True)

    def test_a_file_is_no_encoder(self, sam_pth: Path) -> None:
        with pytest.raises(UnknownModel, match=r"is a file whose first keys are .*image_encoder"):
            load_encoder(str(sam_pth), device="cpu")

    def test_an_empty_folder_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownModel, match=r"open_clip_config\.json"):
            load_encoder(str(tmp_path), device="cpu")
        with pytest.raises(UnknownModel, match=r"config\.json"):
            load_segmenter(str(tmp_path), device="cpu")

    def test_an_architecture_with_a_checkpoint_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = open_clip.create_model("ViT-S-32-alt", pretrained=None)
        torch.save(model.state_dict(), tmp_path / "own.pt")
        monkeypatch.chdir(tmp_path)
        encoder = load_encoder("ViT-S-32-alt:own.pt", device="cpu", offline=True)
        assert torch.equal(encoder.model.visual.proj, model.visual.proj)


class TestBrokenEncoders:
    @pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "nan", "truncated"])
    def test_weights_that_do_not_fit(self, biomedclip_copy: Path, change: str) -> None:
        path = biomedclip_copy / "open_clip_pytorch_model.bin"
        state = torch.load(path, weights_only=True)
        key = "visual.trunk.blocks.0.attn.qkv.weight"
        if change == "missing":
            del state[key]
        elif change == "unexpected":
            state["visual.trunk.extra"] = torch.zeros(1)
        elif change == "shape":
            state[key] = state[key][:-1]
        else:
            state[key][0] = torch.nan
        torch.save(state, path)
        if change == "truncated":
            path.write_bytes(path.read_bytes()[:-20000])
        with pytest.raises(BrokenWeights) as error:
            load_encoder(str(biomedclip_copy), device="cpu")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("content", ["{", "[]", '{"model_cfg": {}}'])
    def test_a_configuration_that_is_none(self, biomedclip_copy: Path, content: str) -> None:
        (biomedclip_copy / "open_clip_config.json").write_text(content)
        with pytest.raises(BrokenWeights):
            load_encoder(str(biomedclip_copy), device="cpu")

    def test_no_weights(self, biomedclip_copy: Path) -> None:
        (biomedclip_copy / "open_clip_pytorch_model.bin").unlink()
        with pytest.raises(BrokenWeights, match="has no weights"):
            load_encoder(str(biomedclip_copy), device="cpu")


class TestTransformersPort:
    def test_the_ports_names_come_back(self, biomedclip: Path, biomedclip_copy: Path) -> None:
        state = torch.load(biomedclip / "open_clip_pytorch_model.bin", weights_only=True)
        ported = port(state)
        assert is_rekeyed(ported)
        assert not is_rekeyed(state)
        (biomedclip_copy / "open_clip_pytorch_model.bin").unlink()
        torch.save(ported, biomedclip_copy / "pytorch_model.bin")
        phrases = ["breast tumor"]
        pixels = torch.rand(1, 3, 160, 160)
        ours, theirs = (load_encoder(str(f), device="cpu") for f in (biomedclip_copy, biomedclip))
        assert torch.equal(ours.encode_text(phrases), theirs.encode_text(phrases))
        assert torch.equal(ours.encode_image(pixels), theirs.encode_image(pixels))

    def test_a_part_that_is_missing_is_missed(self, biomedclip: Path, biomedclip_copy: Path) -> None:
        ported = port(torch.load(biomedclip / "open_clip_pytorch_model.bin", weights_only=True))
        del ported["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
        assert "visual.trunk.blocks.1.attn.qkv.weight" not in to_open_clip(ported)
        torch.save(ported, biomedclip_copy / "open_clip_pytorch_model.bin")
        with pytest.raises(BrokenWeights, match="qkv"):
            load_encoder(str(biomedclip_copy), device="cpu")


def port(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's names -> the port's, by substitution (the port's own direction)."""
    names = {
        "visual.head.proj": "visual_projection",
        "visual.trunk.norm.": "vision_model.post_layernorm.",
        "visual.trunk.patch_embed.proj": "vision_model.embeddings.patch_embedding",
        "visual.trunk.blocks": "vision_model.encoder.layers",
        ".norm1": ".layer_norm1",
        ".norm2": ".layer_norm2",
        ".attn.proj": ".self_attn.out_proj",
        "text.transformer.embeddings.token_type_embeddings": "text_model.embeddings.token_type_embedding",
        "text.transformer.embeddings.word_embeddings": "text_model.embeddings.token_embedding",
        "text.transformer.embeddings.position_embeddings": "text_model.embeddings.position_embedding",
        "text.transformer.embeddings.LayerNorm": "text_model.embeddings.layer_norm",
        "text.transformer.encoder.layer": "text_model.encoder.layers",
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.output.LayerNorm": "layer_norm1",
        "intermediate.dense": "mlp.fc1",
        "output.LayerNorm": "layer_norm2",
        "output.dense": "mlp.fc2",
        "text.proj.0": "text_projection.fc1",
        "text.proj.2": "text_projection.fc2",
    }
    result: dict[str, torch.Tensor] = {}
    for original, tensor in state.items():
        key = original
        if key == "visual.trunk.cls_token":
            result["vision_model.embeddings.class_embedding"] = tensor[0, 0]
            continue
        if key == "visual.trunk.pos_embed":
            result["vision_model.embeddings.position_embedding.weight"] = tensor[0]
            continue
        for old, new in names.items():
            key = key.replace(old, new)
        if ".attn.qkv." in key:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                result[key.replace(".attn.qkv.", f".self_attn.{part}_proj.")] = piece.clone()
        else:
            result[key] = tensor
    return result


class TestDevices:
    @pytest.mark.parametrize("name", ["tpu", "cuda:99", "", "meta"])
    def test_devices_that_are_not_here(self, name: str) -> None:
        with pytest.raises(UnavailableDevice):
            resolve_device(name)

    def test_auto_is_what_there_is(self) -> None:
        assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert resolve_device("cpu") == torch.device("cpu")

    def test_precisions(self) -> None:
        cpu = torch.device("cpu")
        assert resolve_precision("float32", cpu) == torch.float32
        assert resolve_precision("bfloat16", cpu) == torch.bfloat16
        assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
        with pytest.raises(UsageError, match="int4"):
            resolve_precision("int4", cpu)

    def test_bfloat16_stays_close(self, tmp_path: Path) -> None:
        folder = str(make_tower_folder(tmp_path / "vit", "CLIP ViT"))
        full, short = (load_encoder(folder, device="cpu", precision=p) for p in ("float32", "bfloat16"))
        pixels = torch.rand(2, 3, 64, 64)
        cosine = (full.encode_image(pixels) * short.encode_image(pixels)).sum(dim=1)
        assert short.encode_image(pixels).dtype == torch.float32
        assert float(cosine.min()) > 0.999


class TestListAndCheck:
    def test_every_known_model_is_listed_once(self) -> None:
        rows = list_models()
        ids = [row.id for row in rows]
        assert [row.id for row in rows[:2]] == ["bundled", "bundled"]
        assert all(ids.count(model.id) == 1 for model in KNOWN_MODELS)
        assert all(row.licence and row.megabytes > 0 for row in rows if row.id != "bundled")

    def test_listing_does_not_import_torch(self) -> None:
        code = (
            "import sys; from lexiseg.models.weights.status import list_models, check_model; "
            "from lexiseg.models.weights.download import pull; list_models();"
            "print(sorted({'torch', 'open_clip', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_telemetry_is_off(self) -> None:
        code = (
            "import lexiseg.models, huggingface_hub.constants as c, os;"
            "print(c.HF_HUB_DISABLE_TELEMETRY, os.environ['DO_NOT_TRACK'])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["True", "1"]

    def test_a_changed_file_is_found(self, sam_copy: Path) -> None:
        write_record(sam_copy, repo="me/mine", revision="1", licence="MIT")
        assert check_model(str(sam_copy)).ok
        weights = sam_copy / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        check = check_model(str(sam_copy))
        assert check.recorded
        assert [file.name for file in check.files if not file.ok] == ["model.safetensors"]
        weights.unlink()
        assert not check_model(str(sam_copy)).ok

    def test_a_folder_without_a_record_has_nothing_to_compare(self, sam: Path) -> None:
        check = check_model(str(sam))
        assert not check.recorded
        assert len(check.files[0].found) == 64

    def test_a_record_that_cannot_be_read(self, sam_copy: Path) -> None:
        (sam_copy / "lexiseg_weights.json").write_text("{}")
        with pytest.raises(BrokenWeights, match="lexiseg_weights"):
            check_model(str(sam_copy))

    @pytest.mark.parametrize("ref", ["facebook/sam-vit-huge", "nosuch"])
    def test_a_model_that_is_not_here(self, ref: str) -> None:
        with pytest.raises(UnknownModel):
            check_model(ref)

    def test_provenance_is_plain_and_names_no_folder(self, sam: Path) -> None:
        weights = load_segmenter(str(sam), device="cpu").weights
        assert weights is not None
        content = weights.as_dict()
        assert json.loads(json.dumps(content)) == content
        assert content["file"] == "model.safetensors"
        assert content["sha256"] == check_model(str(sam)).files[0].found

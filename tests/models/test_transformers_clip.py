"""CLIP, MetaCLIP 2, SigLIP and SigLIP 2 of transformers: the same embeddings, and towers that saliency can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clip_files import KINDS, make_folder, make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from lexiseg.errors import BrokenWeights
from lexiseg.models.loading import load_encoder
from lexiseg.models.protocols import Encoder

SOFTMAX = ("CLIP", "MetaClip2")
PHRASES = ["breast tumor", "left lung", "fetal head in the brain"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("clips")
    return {kind: make_folder(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load_encoder(str(folder), device="cpu", precision="float32") for kind, folder in folders.items()}


def theirs(kind: str, pixels: Tensor) -> Tensor:
    """transformers' own embeddings of normalised pixels, of unit length."""
    model = make_model(kind)
    with torch.no_grad():
        if kind == "Siglip2":  # patches as rows: by row, column, colour
            rows = pixels.reshape(-1, 3, 4, 16, 4, 16).permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), 16, -1)
            shapes = torch.tensor([[4, 4]] * len(pixels))
            found = model.get_image_features(
                pixel_values=rows, pixel_attention_mask=torch.ones(len(pixels), 16), spatial_shapes=shapes
            )
        else:
            found = model.get_image_features(pixel_values=pixels)
    return torch.nn.functional.normalize(found.pooler_output, dim=-1)


@pytest.mark.parametrize("kind", KINDS)
class TestAsTransformers:
    def test_images(self, loaded: dict[str, Any], kind: str) -> None:
        encoder = loaded[kind]
        pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        if kind not in SOFTMAX:
            mean = std = [0.5, 0.5, 0.5]
        normalised = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        ours = encoder.encode_image(pixels)
        assert not torch.allclose(ours[0], ours[1], atol=1e-3)
        assert torch.allclose(ours, theirs(kind, normalised), atol=1e-5)

    def test_phrases(self, loaded: dict[str, Any], kind: str) -> None:
        encoder = loaded[kind]
        ours = encoder.encode_text(PHRASES)
        tokens = encoder.tokenizer(PHRASES)
        assert tokens.shape == (3, 24)
        with torch.no_grad():
            found = make_model(kind).get_text_features(input_ids=tokens).pooler_output
        assert not torch.allclose(ours[0], ours[1], atol=1e-3)
        assert torch.allclose(ours, torch.nn.functional.normalize(found, dim=-1), atol=1e-5)

    def test_scale_and_bias(self, loaded: dict[str, Any], kind: str) -> None:
        model = make_model(kind)
        assert loaded[kind].logit_scale == pytest.approx(float(model.logit_scale.exp()))
        assert loaded[kind].logit_bias == pytest.approx(0 if kind in SOFTMAX else -3)

    def test_the_protocol(self, loaded: dict[str, Any], folders: dict[str, Path], kind: str) -> None:
        encoder = loaded[kind]
        assert isinstance(encoder, Encoder)
        assert (encoder.name, encoder.input_size) == (str(folders[kind]), 64)
        assert encoder.default_layer() == ("trunk.blocks.2.norm1" if kind in SOFTMAX else "trunk.blocks.2")

    def test_every_position_of_the_layer_counts(self, loaded: dict[str, Any], kind: str) -> None:
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        maps, gradients = loaded[kind].activations(pixels, loaded[kind].default_layer(), lambda e: e.sum(1))
        assert maps.shape == (32, 4, 4)
        assert bool((gradients.abs().sum(1) > 0).all())

    def test_what_follows_a_block_can_be_run_alone(self, loaded: dict[str, Any], kind: str) -> None:
        encoder = loaded[kind]
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        seen: list[Tensor] = []
        with encoder.patched("trunk.blocks.1", lambda tokens: seen.append(tokens) or tokens):
            whole = encoder.encode_image(pixels)
        assert torch.allclose(encoder.forward_from("trunk.blocks.1", seen[0]), whole, atol=1e-5)

    def test_one_embedding_a_position(self, loaded: dict[str, Any], kind: str) -> None:
        encoder = loaded[kind]
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
        dense = encoder.encode_dense(pixels)
        assert dense.shape == (1, 24 if kind in SOFTMAX else 32, 4, 4)
        assert torch.allclose(dense.norm(dim=1), torch.ones(1, 4, 4), atol=1e-5)


class TestOnePosition:
    @pytest.mark.parametrize("kind", ["Siglip", "Siglip2"])
    def test_a_pool_that_sees_one_token_gives_that_positions_embedding(self, loaded: dict[str, Any], kind: str) -> None:
        """An image whose tokens are all alike is pooled to what each of its positions is."""
        encoder = loaded[kind]
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))

        def alike(tokens: Tensor) -> Tensor:
            return tokens[:, :1].expand_as(tokens)

        with encoder.patched("trunk.blocks.2", alike):
            whole, dense = encoder.encode_image(pixels), encoder.encode_dense(pixels)
        assert torch.allclose(dense, whole[:, :, None, None].expand_as(dense), atol=1e-5)


class TestBadFolders:
    def copy(self, folder: Path, place: Path) -> Path:
        for file in folder.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        return place

    def said(self, place: Path) -> str:
        with pytest.raises(BrokenWeights) as raised:
            load_encoder(str(place), device="cpu")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("change", ["missing", "unexpected", "truncated", "nan", "gone"])
    def test_weights_that_do_not_fit(self, folders: dict[str, Path], tmp_path: Path, kind: str, change: str) -> None:
        place = self.copy(folders[kind], tmp_path)
        path = place / "model.safetensors"
        state = load_file(path)
        key = "vision_model.encoder.layers.0.mlp.fc1.weight"
        if change == "missing":
            del state[key]
        elif change == "unexpected":
            state["extra.weight"] = torch.zeros(1)
        elif change == "nan":
            state[key][0] = torch.nan
        save_file(state, path)
        if change == "truncated":
            path.write_bytes(path.read_bytes()[:-500])
        if change == "gone":
            path.unlink()
        wanted = {"missing": "fc1", "unexpected": "extra.weight", "nan": "NaN", "gone": "has no weights"}
        assert wanted.get(change, "model.safetensors") in self.said(place)

    def test_no_tokenizer(self, folders: dict[str, Path], tmp_path: Path) -> None:
        place = self.copy(folders["CLIP"], tmp_path)
        for name in ("tokenizer.json", "vocab.txt"):
            (place / name).unlink()
        assert "has no tokenizer: expected tokenizer.json" in self.said(place)

    def test_a_tokenizer_that_knows_no_word(self, folders: dict[str, Path], tmp_path: Path) -> None:
        place = self.copy(folders["CLIP"], tmp_path)
        tokenizer = json.loads((place / "tokenizer.json").read_text())
        special = {token: number for token, number in tokenizer["model"]["vocab"].items() if token.startswith("[")}
        tokenizer["model"]["vocab"] = special
        (place / "tokenizer.json").write_text(json.dumps(tokenizer))
        assert "reads two different phrases alike" in self.said(place)

    def test_an_activation_that_nobody_knows(self, folders: dict[str, Path], tmp_path: Path) -> None:
        place = self.copy(folders["CLIP"], tmp_path)
        config = json.loads((place / "config.json").read_text())
        config["vision_config"]["hidden_act"] = "silu"
        (place / "config.json").write_text(json.dumps(config))
        assert "hidden_act is 'silu'; expected one of quick_gelu" in self.said(place)

    def test_names_and_counters_of_old_files(self, folders: dict[str, Path], tmp_path: Path) -> None:
        place = self.copy(folders["CLIP"], tmp_path)
        state = load_file(place / "model.safetensors")
        state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        save_file(state, place / "model.safetensors")
        load_encoder(str(place), device="cpu")

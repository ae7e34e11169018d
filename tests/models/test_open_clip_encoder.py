"""Encoders of every kind of image tower, against open_clip itself."""

from __future__ import annotations

import copy
import json
import logging
import math
import shutil
from importlib import resources
from pathlib import Path

import open_clip
import pytest
import torch
from checkpoints import make_bert_config
from towers import TOWERS, make_tower_folder

from lexiseg.errors import BadPhrase, BrokenWeights, UnsupportedByModel, UnwritableResult
from lexiseg.models.encoders.open_clip import OpenClipEncoder
from lexiseg.models.loading import load_encoder
from lexiseg.models.protocols import Encoder

NO_DENSE = {"timm ConvNeXt, rotary attention pool"}
PHRASES = ["breast tumor", "left lung"]


def image(encoder: OpenClipEncoder, count: int = 1, seed: int = 0) -> torch.Tensor:
    size = encoder.input_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", TOWERS)
class TestEveryTower:
    def test_embeddings_are_open_clips_own(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        assert isinstance(encoder, Encoder)
        folder = Path(encoder.name)
        model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        model.eval()
        pixels = image(encoder, 2)
        normalise = transform.transforms[-1]
        with torch.no_grad():
            expected = model.encode_image(normalise(pixels), normalize=True)
            text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(PHRASES), normalize=True)
        assert torch.allclose(encoder.encode_image(pixels), expected, atol=1e-5)
        assert torch.allclose(encoder.encode_text(PHRASES), text, atol=1e-5)
        assert encoder.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)

    def test_every_position_of_the_default_layer_counts(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        text = encoder.encode_text(PHRASES)
        layer = encoder.default_layer()
        assert layer in encoder.layers()
        maps, gradients = encoder.activations(image(encoder), layer, lambda z: (z @ text.T)[0])
        assert gradients is not None
        assert gradients.shape == (2, *maps.shape)
        assert min(maps.shape[-2:]) >= 2
        strength = gradients.abs().sum(dim=1)
        assert bool((strength > 0).all())
        importance = gradients.mean(dim=(2, 3))
        assert float(importance.std(dim=1).min()) > 0
        assert not torch.allclose(importance[0], importance[1])

    def test_gradients_predict_what_a_change_does(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        """First order: moving the layer's output a little moves the score by the gradient times the move."""
        encoder = encoders[kind]
        layer = encoder.default_layer()
        text = encoder.encode_text(PHRASES[:1])
        pixels = image(encoder)

        def score(embedding: torch.Tensor) -> torch.Tensor:
            return (embedding @ text.T)[0]

        _, gradients = encoder.activations(pixels, layer, score)
        assert gradients is not None
        step = 1e-2 / float(gradients.norm())
        module = encoder.model.visual.get_submodule(layer)

        def nudged(sign: int) -> float:
            def move(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
                change = sign * step * gradients[0]
                if output.ndim == 3:
                    flat = change.flatten(1).T[None]
                    front = output.shape[1] - flat.shape[1]
                    change = torch.cat([flat.new_zeros(1, front, flat.shape[2]), flat], dim=1)
                return output + change

            handle = module.register_forward_hook(move)
            try:
                return float(score(encoder.encode_image(pixels)))
            finally:
                handle.remove()

        expected = 2 * step * float(gradients.square().sum())
        assert nudged(1) - nudged(-1) == pytest.approx(expected, rel=0.05)

    def test_hooks_are_released(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]

        def boom(_embedding: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("score failed")

        with pytest.raises(RuntimeError, match="score failed"):
            encoder.activations(image(encoder), encoder.default_layer(), boom)
        assert not any(module._forward_hooks for module in encoder.model.modules())

    def test_dense_features(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        pixels = image(encoder, 2)
        if kind in NO_DENSE:
            with pytest.raises(UnsupportedByModel, match="pooling"):
                encoder.encode_dense(pixels)
            with pytest.raises(UnsupportedByModel, match="pooling"):
                encoder.encode_dense_and_image(pixels)
            return
        dense = encoder.encode_dense(pixels)
        embedding = encoder.encode_image(pixels)
        for both, alone in zip(encoder.encode_dense_and_image(pixels), (dense, embedding), strict=True):
            assert torch.allclose(both, alone, atol=1e-5)
        assert dense.shape[:2] == embedding.shape
        assert dense.shape[2] == dense.shape[3] >= 2
        assert torch.allclose(dense.norm(dim=1), torch.ones(()), atol=1e-5)
        assert not any(module._forward_hooks for module in encoder.model.modules())

    def test_results_may_enter_a_later_backward_pass(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        weight = torch.ones(32, requires_grad=True)
        (encoder.encode_image(image(encoder)) * encoder.encode_text(PHRASES[:1]) * weight).sum().backward()
        assert weight.grad is not None

    def test_activations_inside_inference_mode(self, encoders: dict[str, OpenClipEncoder], kind: str) -> None:
        encoder = encoders[kind]
        with torch.inference_mode():
            pixels = image(encoder)
            _, gradients = encoder.activations(pixels, encoder.default_layer(), lambda z: z[0, :2])
        assert gradients is not None
        assert float(gradients.abs().max()) > 0


@pytest.mark.parametrize(
    ("kind", "forwards"),
    [("timm ConvNeXt", 1), ("timm ResNet", 1), ("timm EfficientNet", 1), ("timm ViT, mean", 2)],
)
def test_positions_and_image_share_a_forward_where_they_can(
    encoders: dict[str, OpenClipEncoder], kind: str, forwards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoders[kind]
    trunk = encoder.model.visual.trunk
    run, seen = trunk.forward_features, []

    def counted(pixels: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        seen.append(pixels.shape)
        return run(pixels, *rest, **options)

    monkeypatch.setattr(trunk, "forward_features", counted)
    encoder.encode_dense_and_image(image(encoder))
    assert len(seen) == forwards


class TestLayers:
    def test_the_second_norm_of_a_class_token_tower_has_no_gradient(self, encoders: dict[str, OpenClipEncoder]) -> None:
        """What the released MedCLIP-SAM reads: its gradients are exactly zero."""
        encoder = encoders["timm ViT, class token"]
        layer = encoder.default_layer()
        assert layer.endswith("norm1")
        second = layer.replace("norm1", "norm2")
        _, gradients = encoder.activations(image(encoder), second, lambda z: z[0, :1])
        assert gradients is not None
        assert float(gradients.abs().max()) == 0

    def test_without_a_score_there_are_no_gradients(self, encoders: dict[str, OpenClipEncoder]) -> None:
        encoder = encoders["CLIP ResNet"]
        maps, gradients = encoder.activations(image(encoder), "layer3")
        assert gradients is None
        assert maps.ndim == 3

    def test_an_unknown_layer_is_an_error(self, encoders: dict[str, OpenClipEncoder]) -> None:
        with pytest.raises(UnsupportedByModel, match="nosuch"):
            encoders["CLIP ViT"].activations(image(encoders["CLIP ViT"]), "nosuch")

    def test_a_layer_without_a_map_is_an_error(self, encoders: dict[str, OpenClipEncoder]) -> None:
        encoder = encoders["timm ConvNeXt"]
        with pytest.raises(UnsupportedByModel, match="not a map"):
            encoder.activations(image(encoder), "head.proj")

    def test_a_gradient_finds_the_layer_where_no_rule_does(
        self, encoders: dict[str, OpenClipEncoder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lexiseg.models.encoders import open_clip as open_clip_encoder
        from lexiseg.models.encoders.open_clip_layers import SaliencyLayers

        known = encoders["timm ViT, class token"]
        monkeypatch.setattr(open_clip_encoder, "find_layers", lambda _tower: SaliencyLayers((), ""))
        encoder = load_encoder(known.name, device="cpu")
        layer = encoder.default_layer()
        _, gradients = encoder.activations(image(encoder), layer, lambda z: z[0, :1])
        assert gradients is not None
        assert bool((gradients.abs().sum(dim=1) > 0).all())


class TestDense:
    def test_a_linear_head_makes_the_mean_of_the_field_the_embedding(
        self, encoders: dict[str, OpenClipEncoder]
    ) -> None:
        from lexiseg.models.encoders.open_clip_dense import dense_features

        encoder = encoders["timm ResNet"]
        pixels = image(encoder)
        with torch.no_grad():
            field = dense_features(encoder.model.visual, pixels)
            whole = encoder.model.visual(pixels)
        assert torch.allclose(field.mean(dim=(2, 3)), whole, atol=1e-4)

    def test_a_head_with_a_norm_is_applied_to_each_position(self, encoders: dict[str, OpenClipEncoder]) -> None:
        """Against the head's own parts, by hand: the layer norm over channels, then the projection."""
        from lexiseg.models.encoders.open_clip_dense import dense_features

        encoder = encoders["timm ConvNeXt"]
        tower = encoder.model.visual
        pixels = image(encoder)
        with torch.no_grad():
            maps = tower.trunk.forward_features(pixels).permute(0, 2, 3, 1)
            norm = tower.trunk.head.norm
            normed = torch.nn.functional.layer_norm(maps, maps.shape[-1:], norm.weight, norm.bias, norm.eps)
            expected = (normed @ tower.head.proj.weight.T).permute(0, 3, 1, 2)
            assert torch.allclose(dense_features(tower, pixels), expected, atol=1e-5)

    def test_clip_resnet_without_positions_pools_a_uniform_map_to_its_dense_feature(
        self, encoders: dict[str, OpenClipEncoder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lexiseg.models.encoders.open_clip_dense import dense_features

        tower = copy.deepcopy(encoders["CLIP ResNet"].model.visual)
        uniform = torch.randn(1, 512, 1, 1).expand(1, 512, 3, 3)
        monkeypatch.setattr(tower, "stem", lambda _pixels: uniform)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            monkeypatch.setattr(tower, stage, torch.nn.Identity())
        with torch.no_grad():
            tower.attnpool.positional_embedding.zero_()
            pooled = tower.attnpool(uniform)
            field = dense_features(tower, torch.zeros(1, 3, 96, 96))
        assert torch.allclose(field, pooled[:, :, None, None].expand_as(field), atol=1e-4)

    @pytest.mark.parametrize("kind", ["timm ViT, class token", "CLIP ViT"])
    def test_the_value_path_is_the_block_with_attention_to_itself(
        self, encoders: dict[str, OpenClipEncoder], kind: str
    ) -> None:
        """Against the block itself under a mask that lets no token see another."""
        from lexiseg.models.encoders.open_clip_dense import dense_features

        encoder = encoders[kind]
        tower = encoder.model.visual
        pixels = image(encoder)
        timm = hasattr(tower, "trunk")
        last = tower.trunk.blocks[-1] if timm else tower.transformer.resblocks[-1]
        caught: list[torch.Tensor] = []
        handle = last.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        with torch.no_grad():
            tower(pixels)
            handle.remove()
            length = caught[0].shape[1]
            alone = torch.full((length, length), -torch.inf).fill_diagonal_(0.0)
            tokens = last(caught[0], attn_mask=alone)
            if timm:
                patches = tower.trunk.norm(tokens)[:, tower.trunk.num_prefix_tokens :]
                expected = tower.head(tower.trunk.fc_norm(patches))
            else:
                expected = tower.ln_post(tokens[:, 1:]) @ tower.proj
            field = dense_features(tower, pixels).flatten(2).transpose(1, 2)
        assert torch.allclose(field, expected, atol=1e-4)


class TestText:
    def test_half_precision_weights_are_read_as_float32(self, tmp_path: Path) -> None:
        folder = make_tower_folder(tmp_path / "half", "timm ConvNeXt", dtype=torch.float16)
        encoder = load_encoder(str(folder), device="cpu")
        assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
        assert encoder.encode_text(PHRASES).dtype == torch.float32

    def test_a_phrase_that_is_too_long_is_cut_and_said(
        self, encoders: dict[str, OpenClipEncoder], caplog: pytest.LogCaptureFixture
    ) -> None:
        encoder = encoders["CLIP ViT"]
        with caplog.at_level(logging.WARNING, logger="lexiseg"):
            embedding = encoder.encode_text(["left lung " * 50])
        assert embedding.shape == (1, 32)
        assert "its end is not read" in caplog.text

    @pytest.mark.parametrize("phrases", [[], [""], ["lung", "  "]])
    def test_empty_phrases(self, encoders: dict[str, OpenClipEncoder], phrases: list[str]) -> None:
        with pytest.raises(BadPhrase):
            encoders["CLIP ViT"].encode_text(phrases)

    def test_a_wrong_input_size_is_an_error(self, encoders: dict[str, OpenClipEncoder]) -> None:
        with pytest.raises(ValueError, match="expected"):
            encoders["CLIP ViT"].encode_image(torch.zeros(1, 3, 32, 32))


@pytest.mark.usefixtures("unplugged")
class TestBiomedClipLayout:
    def test_loads_without_the_network_wherever_it_lies(self, biomedclip: Path, tmp_path: Path) -> None:
        first = load_encoder(str(biomedclip), device="cpu").encode_text(PHRASES)
        moved = Path(shutil.copytree(biomedclip, tmp_path / "elsewhere" / "model"))
        encoder = load_encoder(f"local-dir:{moved}", device="cpu")
        assert torch.equal(encoder.encode_text(PHRASES), first)
        assert encoder.default_layer() == "trunk.blocks.5.norm1"

    def test_text_is_open_clips_own(self, biomedclip_copy: Path) -> None:
        """The columns of padding that are left out change nothing."""
        encoder = load_encoder(str(biomedclip_copy), device="cpu")
        config = json.loads((biomedclip_copy / "open_clip_config.json").read_text())
        tower = make_bert_config(biomedclip_copy.parent / "bert", size="tiny")
        config["model_cfg"]["text_cfg"]["hf_model_name"] = str(tower)
        (biomedclip_copy / "open_clip_config.json").write_text(json.dumps(config))
        model = open_clip.create_model(f"local-dir:{biomedclip_copy}").eval()
        tokens = open_clip.get_tokenizer(f"local-dir:{biomedclip_copy}")(PHRASES)
        assert tokens.shape == (2, 64)
        with torch.no_grad():
            expected = model.encode_text(tokens, normalize=True)
        assert torch.allclose(encoder.encode_text(PHRASES), expected, atol=1e-6)

    def test_a_full_disk_is_no_fault_of_the_folder(self, biomedclip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(UnwritableResult, match=r"could not be written \(No space left on device\)"):
            load_encoder(str(biomedclip), device="cpu")

    def test_positions_are_normalised_with_the_folders_mean(self, biomedclip: Path) -> None:
        encoder = load_encoder(str(biomedclip), device="cpu")
        assert torch.allclose(encoder.mean.flatten(), torch.tensor([0.48145466, 0.4578275, 0.40821073]))
        assert encoder.mean.shape == (3, 1, 1)
        assert math.isclose(encoder.logit_bias, 0.0)


def test_code_that_a_text_tower_brings_is_never_run(tmp_path: Path) -> None:
    folder = shutil.copytree(str(resources.files("lexiseg.bundled") / "clip"), tmp_path / "clip")
    path = Path(folder) / "text_tower" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoConfig": "evil.Config"}}))
    (path.parent / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BrokenWeights, match="brings code of its own"):
        load_encoder(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()

"""Features of a layer replaced and run forward, in towers of every kind."""

from __future__ import annotations

import pytest
import torch
from towers import TOWERS

from lexiseg.errors import UnsupportedByModel
from lexiseg.models.encoders.open_clip import OpenClipEncoder

Encoders = dict[str, OpenClipEncoder]
# Layers that all that follows depends on alone.
WHOLE = {
    "timm ViT, class token": "trunk.blocks.3",
    "timm ViT, mean": "trunk.blocks.5",
    "timm ViT, attention pool": "trunk.blocks.2",
    "CLIP ViT": "transformer.resblocks.1",
    "CLIP ViT, mean": "transformer.resblocks.0",
    "CLIP ResNet": "layer3",
}


def image(encoder: OpenClipEncoder, count: int = 1) -> torch.Tensor:
    size = encoder.input_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def seen_at(encoder: OpenClipEncoder, layer: str, pixels: torch.Tensor) -> torch.Tensor:
    """The features that a function at the layer is given."""
    seen: list[torch.Tensor] = []

    def keep(features: torch.Tensor) -> torch.Tensor:
        seen.append(features.clone())
        return features

    with encoder.patched(layer, keep):
        encoder.encode_image(pixels)
    (features,) = seen
    return features


def on_grid(features: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Tokens as maps of that shape, those in front of the positions left out; maps stay."""
    positions = maps.shape[2] * maps.shape[3]
    return features if features.ndim == 4 else features[:, -positions:].transpose(1, 2).reshape(maps.shape)


@pytest.mark.parametrize("kind", TOWERS)
class TestEveryTower:
    def test_the_identity_changes_nothing(self, encoders: Encoders, kind: str) -> None:
        encoder = encoders[kind]
        pixels = image(encoder, 2)
        plain = encoder.encode_image(pixels)
        for layer in encoder.layers():
            with encoder.patched(layer, lambda features: features):
                found = encoder.encode_image(pixels)
            # A class token's last block is asked less without a patch, so that its sums are made in another order.
            near = 1e-6 if kind == "timm ViT, class token" else 0.0
            torch.testing.assert_close(found, plain, rtol=0, atol=near)
        assert not any(module._forward_hooks for module in encoder.model.modules())

    def test_zeros_change_the_embedding(self, encoders: Encoders, kind: str) -> None:
        encoder = encoders[kind]
        pixels = image(encoder)
        plain = encoder.encode_image(pixels)
        with encoder.patched(encoder.default_layer(), torch.zeros_like):
            changed = encoder.encode_image(pixels)
        assert not torch.allclose(changed, plain, atol=1e-3)
        assert torch.equal(encoder.encode_image(pixels), plain)

    def test_features_have_the_form_that_activations_show(self, encoders: Encoders, kind: str) -> None:
        encoder = encoders[kind]
        layer, pixels = encoder.default_layer(), image(encoder)
        features = seen_at(encoder, layer, pixels)
        maps, _ = encoder.activations(pixels, layer)
        assert torch.equal(on_grid(features, maps[None]), maps[None])

    def test_the_gradient_reaches_what_is_brought_in(self, encoders: Encoders, kind: str) -> None:
        """Against the gradient that `activations` gives for the same score."""
        encoder = encoders[kind]
        layer, pixels = encoder.default_layer(), image(encoder)
        features = seen_at(encoder, layer, pixels)
        change = torch.zeros_like(features, requires_grad=True)
        with encoder.patched(layer, lambda given: given + change):
            score = encoder.encode_image(pixels)[0, 0]
        (ours,) = torch.autograd.grad(score, change)
        _, theirs = encoder.activations(pixels, layer, lambda z: z[0, :1])
        assert theirs is not None
        assert torch.allclose(on_grid(ours, theirs), theirs, rtol=1e-4, atol=1e-7)


class TestPatched:
    def test_without_gradients_there_is_none(self, encoders: Encoders) -> None:
        encoder = encoders["CLIP ViT"]
        change = torch.ones((), requires_grad=True)
        with torch.no_grad(), encoder.patched(encoder.default_layer(), lambda given: given * change):
            assert not encoder.encode_image(image(encoder)).requires_grad

    def test_positions_are_patched_too(self, encoders: Encoders) -> None:
        encoder = encoders["timm ConvNeXt"]
        plain = encoder.encode_dense(image(encoder))
        with encoder.patched(encoder.layers()[0], torch.zeros_like):
            assert not torch.allclose(encoder.encode_dense(image(encoder)), plain, atol=1e-3)

    def test_two_layers_at_once_and_in_turn(self, encoders: Encoders) -> None:
        encoder = encoders["CLIP ViT"]
        pixels, (first, *_, last) = image(encoder), encoder.layers()
        with encoder.patched(last, torch.zeros_like):
            only_last = encoder.encode_image(pixels)
            with encoder.patched(first, torch.zeros_like):
                assert torch.equal(encoder.encode_image(pixels), only_last)
            assert torch.equal(encoder.encode_image(pixels), only_last)

    def test_a_function_that_fails_leaves_nothing_behind(self, encoders: Encoders) -> None:
        encoder = encoders["CLIP ResNet"]
        plain = encoder.encode_image(image(encoder))
        with pytest.raises(ZeroDivisionError), encoder.patched("layer3", lambda _: 1 / 0):
            encoder.encode_image(image(encoder))
        assert not any(module._forward_hooks for module in encoder.model.modules())
        assert torch.equal(encoder.encode_image(image(encoder)), plain)

    def test_another_shape_is_an_error(self, encoders: Encoders) -> None:
        encoder = encoders["CLIP ResNet"]
        with (
            pytest.raises(ValueError, match=r"got features of shape \(1, 256, 1, 1\), expected \(1, 256, 6, 6\)"),
            encoder.patched("layer3", lambda features: features.mean((2, 3), keepdim=True)),
        ):
            encoder.encode_image(image(encoder))

    def test_an_unknown_layer_is_an_error(self, encoders: Encoders) -> None:
        with (
            pytest.raises(UnsupportedByModel, match="no layer 'nosuch'"),
            encoders["CLIP ViT"].patched("nosuch", torch.zeros_like),
        ):
            pass


class TestForwardFrom:
    @pytest.mark.parametrize("kind", WHOLE)
    def test_what_follows_makes_the_embedding(self, encoders: Encoders, kind: str) -> None:
        encoder, layer = encoders[kind], WHOLE[kind]
        pixels = image(encoder, 2)
        features = seen_at(encoder, layer, pixels)
        assert torch.allclose(encoder.forward_from(layer, features), encoder.encode_image(pixels), atol=1e-6)

    @pytest.mark.parametrize("kind", WHOLE)
    def test_a_layer_of_zeros_leaves_nothing_of_the_image(self, encoders: Encoders, kind: str) -> None:
        encoder, layer = encoders[kind], WHOLE[kind]
        zeros = torch.zeros_like(seen_at(encoder, layer, image(encoder)))
        with encoder.patched(layer, torch.zeros_like):
            patched = [encoder.encode_image(pixels) for pixels in (image(encoder), image(encoder) / 2)]
        assert torch.equal(patched[0], patched[1])
        assert torch.allclose(encoder.forward_from(layer, zeros), patched[0], atol=1e-6)

    @pytest.mark.parametrize("kind", WHOLE)
    def test_the_gradient_is_that_of_the_whole_tower(self, encoders: Encoders, kind: str) -> None:
        encoder, layer = encoders[kind], WHOLE[kind]
        pixels = image(encoder)
        features = seen_at(encoder, layer, pixels).requires_grad_()
        (ours,) = torch.autograd.grad(encoder.forward_from(layer, features)[0, 0], features)
        _, theirs = encoder.activations(pixels, layer, lambda z: z[0, :1])
        assert theirs is not None
        assert torch.allclose(on_grid(ours, theirs), theirs, rtol=1e-4, atol=1e-7)

    @pytest.mark.parametrize(
        ("kind", "layer"),
        [
            ("timm ViT, class token", "trunk.blocks.5.norm1"),
            ("CLIP ViT", "transformer.resblocks.2.ln_1"),
            ("timm ConvNeXt", "trunk.stages.3"),
        ],
    )
    def test_where_more_is_needed_it_is_refused(self, encoders: Encoders, kind: str, layer: str) -> None:
        with pytest.raises(UnsupportedByModel, match="use patched"):
            encoders[kind].forward_from(layer, torch.zeros(1))

    def test_an_unknown_layer_is_an_error(self, encoders: Encoders) -> None:
        with pytest.raises(UnsupportedByModel, match="no layer 'nosuch'"):
            encoders["CLIP ViT"].forward_from("nosuch", torch.zeros(1))

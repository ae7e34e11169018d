"""A tiny encoder whose every number a test can compute again by hand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import UnsupportedByModel


class FakeEncoder:
    """conv1, tanh, conv2, tanh, mean over positions, projection; "dead" is computed, then not used."""

    def __init__(
        self,
        *,
        size: int = 32,
        channels: int = 12,
        dim: int = 6,
        bias: float = 0.0,
        scale: float = 20.0,
        dead: Literal["zero", "constant"] = "zero",
    ) -> None:
        generator = torch.Generator().manual_seed(7)
        self.input_size = size
        self.name = "fake"
        self.device = torch.device("cpu")
        self.mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
        self.logit_scale = scale
        self.logit_bias = bias
        self.dim = dim
        self.dead = dead
        self.conv1 = nn.Conv2d(3, channels, 4, stride=4)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.projection = torch.randn(channels, dim, generator=generator)
        with torch.no_grad():
            for conv in (self.conv1, self.conv2):
                conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) * 0.3)
                assert conv.bias is not None
                conv.bias.copy_(torch.randn(conv.bias.shape, generator=generator) * 0.1)
        self.conv1.requires_grad_(False)
        self.conv2.requires_grad_(False)
        self.text_calls: list[tuple[str, ...]] = []
        self.image_calls: list[int] = []
        self.dense_calls: list[int] = []
        self.activation_calls = 0
        self.table: dict[str, Tensor] = {}
        self.replaced: Callable[[Tensor], Tensor] = lambda features: features

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        self.text_calls.append(tuple(phrases))
        return torch.stack([self.vector(phrase) for phrase in phrases])

    def vector(self, phrase: str) -> Tensor:
        if phrase in self.table:
            return self.table[phrase]
        generator = torch.Generator().manual_seed(zlib.crc32(phrase.encode()))
        return F.normalize(torch.randn(self.dim, generator=generator), dim=0)

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.image_calls.append(len(pixels))
        with torch.no_grad():
            return self.embed(pixels)

    def encode_dense(self, pixels: Tensor, attention: str = "value") -> Tensor:
        self.dense_calls.append(len(pixels))
        with torch.no_grad():
            maps = self.top(self.bottom(pixels))
            return F.normalize(torch.einsum("bchw,ce->behw", maps, self.projection), dim=1)

    def encode_dense_and_image(self, pixels: Tensor, attention: str = "value") -> tuple[Tensor, Tensor]:
        return self.encode_dense(pixels), self.encode_image(pixels)

    def encode_regions(self, pixels: Tensor, masks: Tensor) -> Tensor:
        raise UnsupportedByModel("no masked attention in a FakeEncoder")

    def default_layer(self) -> str:
        return "conv2"

    def layers(self) -> tuple[str, ...]:
        return ("conv1", "conv2", "dead")

    def activations(
        self, pixels: Tensor, layer: str, score: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        self.activation_calls += 1
        if layer not in self.layers():
            raise UnsupportedByModel(f"no layer {layer!r}")
        bottom = self.bottom(pixels).requires_grad_()
        top = self.top(bottom)
        maps = {"conv1": bottom, "conv2": top, "dead": top.detach()}[layer]
        if score is None:
            return maps[0].detach(), None
        scores = score(self.pool(top))
        if layer == "dead":
            flat = torch.zeros_like(maps) if self.dead == "zero" else torch.ones_like(maps) * 0.3
            return maps[0], flat.repeat(len(scores), 1, 1, 1)
        gradients = [torch.autograd.grad(value, maps, retain_graph=True)[0][0] for value in scores]
        return maps[0].detach(), torch.stack(gradients)

    @contextmanager
    def patched(self, layer: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        if layer != "conv2":
            raise UnsupportedByModel(f"the fake replaces conv2 alone, not {layer!r}")
        before, self.replaced = self.replaced, function
        try:
            yield
        finally:
            self.replaced = before

    def forward_from(self, layer: str, features: Tensor) -> Tensor:
        if layer != "conv2":
            raise UnsupportedByModel(f"no way on from {layer!r}")
        return self.pool(features)

    def bottom(self, pixels: Tensor) -> Tensor:
        return torch.tanh(self.conv1(pixels - self.mean))

    def top(self, bottom: Tensor) -> Tensor:
        return torch.tanh(self.conv2(bottom))

    def pool(self, top: Tensor) -> Tensor:
        return F.normalize(top.mean(dim=(2, 3)) @ self.projection, dim=1)

    def embed(self, pixels: Tensor) -> Tensor:
        return self.pool(self.replaced(self.top(self.bottom(pixels))))


class ColourEncoder:
    """Each position's embedding is its cell's mean colour: "red" is where the scan is red."""

    def __init__(self, *, size: int = 64, stride: int = 16, bias: float = -10.0, scale: float = 20.0) -> None:
        self.input_size = size
        self.stride = stride
        self.name = "colour"
        self.device = torch.device("cpu")
        self.mean = torch.tensor([0.1, 0.1, 0.6]).view(3, 1, 1)
        self.logit_scale = scale
        self.logit_bias = bias
        self.dense_calls: list[int] = []

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        colours = {"red": 0, "green": 1, "blue": 2}
        return torch.stack([torch.eye(3)[colours[phrase]] for phrase in phrases])

    def encode_image(self, pixels: Tensor) -> Tensor:
        return F.normalize(pixels.mean(dim=(2, 3)), dim=1)

    def encode_dense(self, pixels: Tensor) -> Tensor:
        self.dense_calls.append(len(pixels))
        return F.normalize(F.avg_pool2d(pixels, self.stride), dim=1)

    def encode_dense_and_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode_dense(pixels), self.encode_image(pixels)

    def default_layer(self) -> str:
        raise UnsupportedByModel("colour has no layers")

    def layers(self) -> tuple[str, ...]:
        return ()

    def activations(
        self, pixels: Tensor, layer: str, score: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        raise UnsupportedByModel("colour has no layers")

    def patched(self, layer: str, function: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        raise UnsupportedByModel("colour has no layers")

    def forward_from(self, layer: str, features: Tensor) -> Tensor:
        raise UnsupportedByModel("colour has no layers")


class NamedColours(ColourEncoder):
    """A phrase with a colour's name in it is that colour, any other is its opposite."""

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        names = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "bright": (1, 1, 1)}
        colours = [next((c for n, c in names.items() if n in text), (-1, -1, -1)) for text in phrases]
        return F.normalize(torch.tensor(colours, dtype=torch.float32), dim=1)

"""What lexiseg asks of a promptable segmentation model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lexiseg.values.arrays import FloatArray


@runtime_checkable
class Encoder(Protocol):
    """A pair of towers that put pixels and phrases into one space (CLIP, BiomedCLIP, ...).

    Pixels handed to an encoder are float32 in [0, 1], shape (B, 3, S, S) with ``S = input_size``: framing a
    scan into that square is the caller's work (`lexiseg.saliency.framing`), normalising with the model's own
    mean and deviation is the encoder's.  Embeddings are float32 and of unit length.
    """

    @property
    def name(self) -> str:
        """How the model was asked for: "bundled", a hub id or a folder."""

    @property
    def input_size(self) -> int:
        """Side S of the square input, in pixels."""

    @property
    def device(self) -> torch.device:
        """Where the weights are; every returned tensor is there too."""

    @property
    def logit_scale(self) -> float:
        """exp of the learnt log-temperature: logits = logit_scale * cosine + logit_bias."""

    @property
    def logit_bias(self) -> float:
        """The learnt bias of a sigmoid-trained model, else 0."""

    @property
    def mean(self) -> Tensor:
        """Mean of the training images, shape (3, 1, 1): what "nothing here" looks like to the model."""

    def encode_text(self, phrases: Sequence[str]) -> Tensor:
        """Embeddings of the phrases, shape (N, E), unit length."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embeddings of the images, shape (B, E), unit length; no gradient."""

    def encode_dense(self, pixels: Tensor) -> Tensor:
        """One embedding for each position, shape (B, E, h, w), unit length over E; no gradient.

        Raises:
            UnsupportedByModel: the tower's pooling does not let a position be projected on its own.
        """

    def encode_dense_and_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What `encode_dense` and `encode_image` return, from one forward where the tower allows it.

        Raises:
            UnsupportedByModel: as `encode_dense`.
        """

    def default_layer(self) -> str:
        """The name of the saliency layer: the deepest whose every position influences the embedding."""

    def layers(self) -> tuple[str, ...]:
        """Names that `activations` takes, shallow to deep."""

    def activations(
        self, pixels: Tensor, layer: str, score: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """A layer's maps, and the gradient of a score with respect to them.

        Args:
            pixels: (1, 3, S, S).
            layer: one of `layers()`.
            score: takes the image's unit embedding (1, E) to scores (N,); None for no gradient.

        Returns:
            maps (C, h, w) and gradients (N, C, h, w), tokens already put back on their grid and the class
            token dropped; None instead of gradients where no score was given.

        Raises:
            UnsupportedByModel: no such layer, or its output is not a map.
        """


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A scan that a segmenter has encoded once, to be prompted many times.

    Attributes:
        embedding: the model's own features, shape (1, C, h, w).
        shape: (H, W) of the scan in its own pixels; prompts and final masks are on this grid.
        input_shape: (h, w) of the scan inside the model's padded square input.
    """

    embedding: Tensor
    shape: tuple[int, int]
    input_shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.embedding.nbytes


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks for N prompts with M candidates each, before they are brought back to the scan's grid.

    Attributes:
        logits: (N, M, h, w) float32 at the model's low resolution, over its padded square input.
        iou: (N, M) the model's own estimate of each mask's IoU.
    """

    logits: Tensor
    iou: Tensor


@runtime_checkable
class Segmenter(Protocol):
    """A promptable segmenter (the SAM family): encode a scan once, decode prompts in batches."""

    @property
    def name(self) -> str:
        """How the model was asked for: "bundled", a hub id, a folder or a .pth file."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """Encode a scan, float32 in [0, 1], shape (H, W) or (H, W, 3)."""

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """Masks for N prompts.

        Args:
            image: from `encode`.
            boxes: (N, 4) x0 y0 x1 y1 in scan pixels, end-exclusive; or None.
            points: (N, P, 2) x y in scan pixels (a pixel's centre is at +0.5); or None.
            labels: (N, P) 1 inside, 0 outside, -1 padding; with points only.
            multimask: three candidates for each prompt instead of one.
        """

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """Low-resolution logits (..., h, w) to logits on the scan's grid (..., H, W); threshold at 0."""

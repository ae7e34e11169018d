"""What lexiseg asks of a promptable segmentation model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lexiseg.scans.scan import FloatArray


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

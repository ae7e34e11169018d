"""A segmenter that encodes a scan once: proposing and drawing, and all phrases, share the encoding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.segmenter import Decoded, EncodedImage, Segmenter
from lexiseg.scans import FloatArray


class EncodeOnce:
    """A `Segmenter` around another one, which keeps its encoding of one scan and of nothing else.

    It is made anew for each slice, so that nothing outlives it.

    Args:
        segmenter: that does the work.
        pixels: of the scan; anything else is encoded each time.
    """

    def __init__(self, segmenter: Segmenter, pixels: FloatArray) -> None:
        self._segmenter, self._pixels = segmenter, pixels
        self._kept: EncodedImage | None = None

    @property
    def name(self) -> str:
        """The name of the segmenter inside."""
        return self._segmenter.name

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._segmenter.device

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """As the segmenter does, or what it gave for the scan before."""
        if not np.array_equal(self._pixels, pixels):
            return self._segmenter.encode(pixels)
        if self._kept is None:
            self._kept = self._segmenter.encode(pixels)
        return self._kept

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """As the segmenter does."""
        return self._segmenter.decode(image, boxes=boxes, points=points, labels=labels, multimask=multimask)

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """As the segmenter does."""
        return self._segmenter.upsample(logits, image)

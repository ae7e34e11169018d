"""A segmenter that remembers the scan it encoded last: proposing and drawing share one encoding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.segmenter import Decoded, EncodedImage, Segmenter
from lexiseg.scans import FloatArray


class EncodeOnce:
    """A `Segmenter` around another one, whose encoding of a whole scan it keeps.

    Only the first array is kept: the generator encodes the whole scan before its crops.  It is made anew for
    each slice, so that nothing outlives it.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._kept: tuple[FloatArray, EncodedImage] | None = None

    @property
    def name(self) -> str:
        """The name of the segmenter inside."""
        return self._segmenter.name

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._segmenter.device

    def encode(self, pixels: FloatArray) -> EncodedImage:
        """As the segmenter does, or what it gave for the same pixels before."""
        if self._kept is not None and np.array_equal(self._kept[0], pixels):
            return self._kept[1]
        encoded = self._segmenter.encode(pixels)
        if self._kept is None:
            self._kept = (pixels, encoded)
        return encoded

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

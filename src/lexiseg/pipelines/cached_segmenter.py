"""A segmenter that answers nothing twice: proposing and drawing, levels and phrases share its work."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.protocols import Decoded, EncodedImage, Segmenter
from lexiseg.values.scan import FloatArray


class AskOnce:
    """A `Segmenter` around another one, which keeps its answers, and encodings of a slice and its windows.

    It is made anew for each slice, so that nothing outlives it.

    Args:
        segmenter: that does the work.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._kept: dict[tuple[tuple[int, ...], bytes], EncodedImage] = {}
        # the encoding is kept with its answer: while it lives, no other one has its id
        self._answers: dict[Hashable, tuple[EncodedImage, Decoded]] = {}

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
        key = pixels.shape, hashlib.blake2b(pixels.tobytes()).digest()
        if key not in self._kept:
            self._kept[key] = self._segmenter.encode(pixels)
        return self._kept[key]

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        """As the segmenter does, or what it answered to the same prompts before."""
        asked = (None if each is None else each.tobytes() for each in (boxes, points, labels))
        key = (id(image), multimask, *asked)
        if key in self._answers:
            return self._answers[key][1]
        decoded = self._segmenter.decode(image, boxes=boxes, points=points, labels=labels, multimask=multimask)
        # a proposal generator asks hundreds at once and never again: keeping those would only fill memory
        if len(decoded.logits) == 1:
            self._answers[key] = image, decoded
        return decoded

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        """As the segmenter does."""
        return self._segmenter.upsample(logits, image)

"""A segmenter that fills what it is asked for, and remembers what that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class Query:
    """One call of `decode`."""

    boxes: np.ndarray | None
    points: np.ndarray | None
    labels: np.ndarray | None
    multimask: bool
    masks: np.ndarray | None = None


class FakeSegmenter:
    """Fills boxes, or 3 x 3 pixels around each positive point where there is no box, at the scan's size.

    Of three candidates the first is the whole scan, the second the filled prompt, the third nothing.

    Args:
        iou: its estimates, one call after the other, repeated from the start when they run out; of three
            candidates the first has the highest.
        blind: answers nothing at all.
        sure: the logit of what is inside, and its opposite outside.
    """

    def __init__(self, *, iou: Sequence[float] = (0.8,), blind: bool = False, sure: float = 1) -> None:
        self.name = "fake segmenter"
        self.device = torch.device("cpu")
        self.weights: Any = None
        self.iou, self.blind, self.sure = tuple(iou), blind, sure
        self.encoded: list[tuple[int, ...]] = []
        self.asked: list[Query] = []
        self.takes_masks = True

    def encode_many(self, scans: Sequence[FloatArray]) -> list[EncodedImage]:
        return [self.encode(pixels) for pixels in scans]

    def shrink(self, mask: np.ndarray, image: EncodedImage) -> np.ndarray:
        return np.where(mask, 10, -10).astype(np.float32)

    def encode(self, pixels: FloatArray) -> EncodedImage:
        self.encoded.append(pixels.shape)
        return EncodedImage((pixels.shape[0], pixels.shape[1]))

    def decode(
        self,
        image: EncodedImage,
        *,
        boxes: np.ndarray | None = None,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        masks: np.ndarray | None = None,
        multimask: bool = False,
    ) -> Decoded:
        self.asked.append(Query(boxes, points, labels, multimask, masks))
        iou = self.iou[(len(self.asked) - 1) % len(self.iou)]
        filled = np.zeros(image.shape, np.bool_)
        if boxes is not None:
            x0, y0, x1, y1 = boxes[0].astype(int)
            filled[y0:y1, x0:x1] = True
        else:
            assert points is not None and labels is not None
            for x, y in points[0][labels[0] == 1].astype(int):
                filled[y - 1 : y + 2, x - 1 : x + 2] = True
        filled &= not self.blind
        if multimask:
            masks, estimates = [np.ones_like(filled), filled, np.zeros_like(filled)], [0.99, iou, 0.1]
        else:
            masks, estimates = [filled], [iou]
        logits = torch.from_numpy(np.stack(masks)).float() * 2 * self.sure - self.sure
        return Decoded(logits[None], torch.tensor([estimates]), MaskGrid(image.shape, (1, 1)))

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        return logits

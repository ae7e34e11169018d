"""A segmenter that outlines what is bright in the box it is asked for, and fills the box where nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class SeenImage(EncodedImage):
    """A scan as it is, grey (H, W)."""

    grey: np.ndarray


class SeeingSegmenter:
    """Brighter than 0.5 is inside, rated 0.9; a box with nothing bright is filled, rated 0.4.

    Args:
        takes_masks: whether it reads masks; then it answers nothing far from the mask.
    """

    def __init__(self, *, takes_masks: bool = False) -> None:
        self.name, self.device, self.weights = "seeing", torch.device("cpu"), None
        self.takes_masks = takes_masks
        self.encoded = 0
        self.at_once: list[int] = []
        self.asked: list[tuple[np.ndarray | None, np.ndarray | None]] = []

    def encode(self, pixels: FloatArray) -> EncodedImage:
        self.encoded += 1
        grey = pixels if pixels.ndim == 2 else pixels.max(-1)
        return SeenImage((int(grey.shape[0]), int(grey.shape[1])), grey)

    def encode_many(self, scans: Sequence[FloatArray]) -> list[EncodedImage]:
        self.at_once.append(len(scans))
        return [self.encode(pixels) for pixels in scans]

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
        assert isinstance(image, SeenImage) and boxes is not None and not multimask
        self.asked.append((boxes, masks))
        box = np.zeros(image.shape, np.bool_)
        x0, y0, x1, y1 = np.rint(boxes[0]).astype(int)
        box[y0:y1, x0:x1] = True
        if masks is not None:
            box &= masks[0] > 0
        bright = (image.grey > 0.5) & box
        found, iou = (bright, 0.9) if bright.any() else (box, 0.4)
        logits = torch.from_numpy(found).float()[None, None] * 20 - 10
        return Decoded(logits, torch.tensor([[iou]]), MaskGrid(image.shape, (1, 1)))

    def shrink(self, mask: np.ndarray, image: EncodedImage) -> np.ndarray:
        return np.where(mask, 10, -10).astype(np.float32)

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        return logits

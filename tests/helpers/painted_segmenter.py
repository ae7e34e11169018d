"""A segmenter that outlines the plateaus of a scan: what a point lies on is what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from lexiseg.models.protocols import Decoded, EncodedImage, MaskGrid
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class PaintedImage(EncodedImage):
    """A scan's pieces of equal grey, numbered from 1, (H, W)."""

    pieces: np.ndarray


class PaintedSegmenter:
    """Three candidates: the piece of equal grey under a point (a box's middle), the same a pixel larger, and nothing.

    Its low resolution is the scan's shrunk by a whole number, as SAM's is.

    Args:
        shrink: scan pixels for each low-resolution cell.
        iou: its estimates for the three.
        unsure: logits are this far from zero, so that an offset beyond it finds every mask unstable.
    """

    def __init__(
        self,
        *,
        shrink: int = 1,
        iou: tuple[float, float, float] = (0.95, 0.9, 0.99),
        unsure: float = 5.0,
    ) -> None:
        self.name = "painted"
        self.device = torch.device("cpu")
        self.shrink, self.iou, self.unsure = shrink, iou, unsure
        self.encoded: list[tuple[int, ...]] = []
        self.decoded: list[int] = []
        self.upsampled = 0

    takes_masks = False

    def encode_many(self, scans: Sequence[FloatArray]) -> list[EncodedImage]:
        return [self.encode(pixels) for pixels in scans]

    def shrink(self, mask: np.ndarray, image: EncodedImage) -> np.ndarray:
        raise NotImplementedError("it reads no masks")

    def encode(self, pixels: FloatArray) -> EncodedImage:
        self.encoded.append(pixels.shape)
        shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        grey = pixels if pixels.ndim == 2 else pixels.mean(-1)
        pieces = np.zeros(shape, np.int64)
        for value in np.unique(grey):
            labels, _ = ndimage.label(grey == value)
            pieces[labels > 0] = labels[labels > 0] + pieces.max()
        return PaintedImage(shape, pieces)

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
        assert masks is None and multimask
        if boxes is not None:
            points, labels = boxes.reshape(-1, 2, 2).mean(axis=1)[:, None], np.ones((len(boxes), 1))
        assert points is not None and labels is not None
        self.decoded.append(len(points))
        side = -(-max(image.shape) // self.shrink)
        found = torch.zeros(len(points), 3, side, side)
        for index, (x, y) in enumerate(points[:, 0]):
            for number, mask in enumerate(self._masks(image, x, y)):
                rows, columns = mask[:: self.shrink, :: self.shrink].shape
                low = torch.from_numpy(mask[:: self.shrink, :: self.shrink].astype(np.float32))
                found[index, number, :rows, :columns] = low
        height, width = (-(-each // self.shrink) for each in image.shape)
        grid = MaskGrid((height, width), (self.shrink, self.shrink))
        return Decoded((found * 2 - 1) * self.unsure, torch.tensor([self.iou]).repeat(len(points), 1), grid)

    def upsample(self, logits: Tensor, image: EncodedImage) -> Tensor:
        self.upsampled += len(logits)
        side = logits.shape[-1] * self.shrink
        whole = interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
        return whole[:, : image.shape[0], : image.shape[1]]

    def _masks(self, image: EncodedImage, x: float, y: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert isinstance(image, PaintedImage)
        pieces = image.pieces
        row, column = min(int(y), image.shape[0] - 1), min(int(x), image.shape[1] - 1)
        mask = pieces == pieces[row, column]
        return mask, ndimage.binary_dilation(mask), np.zeros_like(mask)

"""The square in which a network sees a scan, and the way back onto the scan's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lexiseg.saliency.framing import Rectangle, frame_scan
from lexiseg.values.arrays import FloatArray


@dataclass(frozen=True)
class Frame:
    """Where a scan of (height, width) lies in a square of `side` pixels: in its middle, aspect kept.

    The place is `lexiseg.saliency.framing`'s.  The pixels are not: colours are averaged before they are
    resized, nothing is cut to [0, 1], and of a map only what lies in the scan's part of the square is read,
    where an encoder's coarse map is read beyond its edge.  Students that exist were trained so.
    SAM's own processors put a scan into the upper left corner, since SAM was trained so.

    Attributes:
        height, width: of the scan.
        side: of the square.
    """

    height: int
    width: int
    side: int

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns that the scan fills."""
        return self._place.height, self._place.width

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the square that the scan fills."""
        place = self._place
        return slice(place.top, place.top + place.height), slice(place.left, place.left + place.width)

    @property
    def _place(self) -> Rectangle:
        return frame_scan((self.height, self.width), size=self.side)[0].place

    def put(self, pixels: FloatArray, *, channels: int) -> Tensor:
        """The scan in the square.

        Args:
            pixels: float32 (H, W) or (H, W, 3) in [0, 1].
            channels: 1 (colours are averaged) or 3 (grey is repeated).

        Returns:
            float32 (channels, side, side); outside the scan 0.
        """
        image = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
        image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
        image = image.mean(0, keepdim=True) if channels == 1 else image.expand(channels, -1, -1)
        small = F.interpolate(image[None], self.inner, mode="bilinear", align_corners=False, antialias=True)[0]
        square = torch.zeros(channels, self.side, self.side)
        square[:, *self.window] = small
        return square

    def put_labels(self, labels: NDArray[np.uint8]) -> Tensor:
        """A label map (H, W) in the square: uint8 (side, side), nearest neighbour, outside the scan 0."""
        given = torch.from_numpy(np.ascontiguousarray(labels))[None, None].float()
        square = torch.zeros(self.side, self.side, dtype=torch.uint8)
        square[self.window] = F.interpolate(given, self.inner, mode="nearest-exact")[0, 0].to(torch.uint8)
        return square

    def take(self, maps: Tensor) -> Tensor:
        """The inverse of `put` for maps (C, side, side): (C, height, width), bilinear."""
        inside = maps[:, *self.window]
        whole = F.interpolate(inside[None], (self.height, self.width), mode="bilinear", align_corners=False)
        return whole[0]


def normalise(images: Tensor) -> Tensor:
    """Zero mean and unit deviation of each image (B, C, S, S), each channel by itself, borders included.

    The borders are the same black in training and in prediction, so they may as well be counted.
    """
    mean = images.mean((2, 3), keepdim=True)
    deviation = images.std((2, 3), keepdim=True, unbiased=False)
    return (images - mean) / deviation.clamp_min(1e-6)

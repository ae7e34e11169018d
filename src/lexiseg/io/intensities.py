"""What readers ask of pixels."""

from __future__ import annotations

import numpy as np

from lexiseg.errors import UnreadableScan
from lexiseg.values.arrays import FloatArray


def grey_if_equal(pixels: FloatArray) -> FloatArray:
    """(H, W, 3) to (H, W) where the three channels are equal everywhere; otherwise `pixels` itself."""
    red = pixels[..., 0]
    if np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]):
        return np.ascontiguousarray(red)
    return pixels


def refuse_flat(pixels: FloatArray) -> None:
    """Raise UnreadableScan where an image (H, W) or (H, W, 3) has one colour only."""
    if np.all(pixels == pixels[:1, :1]):
        raise UnreadableScan("all pixels are equal; there is nothing to segment in it")

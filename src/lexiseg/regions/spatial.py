"""The Gaussian kernel over pixel positions alone."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import correlate1d

from lexiseg.scans.scan import FloatArray

TRUNCATE = 4.0  # exp(-8) = 3e-4 of the peak is where the tail is cut


class SpatialGaussian:
    """Symmetrically normalised sum over all pixels, weighed by exp(-|p_i - p_j|^2 / (2 sxy^2)).

    The kernel is a product of one factor for each axis, and so is its row sum; both the filter and its
    normalisation are therefore one-dimensional, and exact but for the tail beyond 4 sxy.
    """

    def __init__(self, shape: tuple[int, int], sxy: float) -> None:
        """Prepare for images of shape (H, W) with a standard deviation of sxy pixels."""
        self._taps = [_taps(size, sxy) for size in shape]
        rows, columns = (
            1.0 / np.sqrt(correlate1d(np.ones(size), taps, mode="constant"))
            for size, taps in zip(shape, self._taps, strict=True)
        )
        self._scale = np.outer(rows, columns).astype(np.float32)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Filter float32 values (H, W)."""
        out = values * self._scale
        for axis, taps in enumerate(self._taps):
            out = correlate1d(out, taps, axis=axis, mode="constant")
        out *= self._scale
        return out


def _taps(size: int, sxy: float) -> np.ndarray:
    radius = min(math.ceil(TRUNCATE * sxy), size - 1)
    return np.exp(-0.5 * (np.arange(-radius, radius + 1) / sxy) ** 2)

"""Gaussian filtering over position and grey level on a dense three-dimensional grid."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import correlate1d
from scipy.sparse import csr_array

from lexiseg.values.arrays import FloatArray

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


LEVELS = 256
CELLS_PER_SIGMA = 2


class BilateralGrid:
    """Sum over all pixels j, weighed by exp(-|p_i - p_j|^2 / (2 sxy^2) - (g_i - g_j)^2 / (2 sg^2)).

    Positions are interpolated linearly onto nodes half a sigma apart, and grey levels stay exact: there are
    only 256 of them.  A scan of 500 x 400 with sxy = 60 becomes 18 x 15 x 256 cells, in which an exact
    Gaussian is three small matrix products.  Interpolating on the way in and on the way out each widens the
    kernel's variance by a sixth of a squared node distance; the Gaussian between them is narrowed by as much.

    Source: Chen, Paris and Durand, "Real-time edge-aware image processing with the bilateral grid", 2007.
    """

    def __init__(self, levels: np.ndarray, *, sxy: float, sg: float) -> None:
        """Prepare for one image.

        Args:
            levels: uint8 (H, W).
            sxy: standard deviation over positions, in pixels.
            sg: standard deviation over grey levels, in levels.
        """
        height, width = levels.shape
        row, row_weight, self._rows = _nodes(height, sxy)
        column, column_weight, self._columns = _nodes(width, sxy)
        # Each pixel touches 2 x 2 nodes.  Row k of `across` holds, for each pixel of a scan line, the weights
        # of its four nodes that lie on node line k, so one thin matrix product yields all weights in order.
        across = np.zeros((2, width, 4), np.float32)
        across[0, :, :2] = across[1, :, 2:] = column_weight
        weights = row_weight @ across.reshape(2, -1)
        line = self._columns * LEVELS
        corners = np.array([0, LEVELS, line, line + LEVELS], np.int32)
        cells = (row * np.int32(line))[:, None] + (column[:, None] * np.int32(LEVELS) + corners).reshape(1, -1)
        cells += levels.astype(np.int32).repeat(4, axis=1)
        ends = np.arange(0, 4 * levels.size + 1, 4, dtype=np.int32)
        self._slice = csr_array((weights.ravel(), cells.ravel(), ends), shape=(levels.size, self._rows * line))
        self._splat = self._slice.T
        narrowed = math.sqrt(CELLS_PER_SIGMA**2 - 1 / 3)
        self._blur_rows = _gaussian(self._rows, narrowed)
        self._blur_columns = _gaussian(self._columns, narrowed)
        self._blur_levels = _gaussian(LEVELS, sg)
        self._shape = levels.shape

    @staticmethod
    def cells(shape: tuple[int, int], sxy: float) -> int:
        """How many cells the grid of an image (H, W) would have."""
        return LEVELS * math.prod(_node_count(size, sxy) for size in shape)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Filter float32 values (H, W); the result is scaled by an unknown constant near 1."""
        grid = (self._splat @ values.ravel()).reshape(-1, LEVELS) @ self._blur_levels
        grid = self._blur_rows @ grid.reshape(self._rows, -1)
        grid = np.matmul(self._blur_columns, grid.reshape(self._rows, self._columns, LEVELS))
        filtered: FloatArray = (self._slice @ grid.ravel()).reshape(self._shape)
        return filtered


def _node_count(size: int, sxy: float) -> int:
    return int((size - 1) * CELLS_PER_SIGMA / sxy) + 2


def _nodes(size: int, sxy: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Lower node (size,) int32, weights of it and the next (size, 2) float32, and the number of nodes."""
    position = np.arange(size) * (CELLS_PER_SIGMA / sxy)
    lower = position.astype(np.int32)
    above = (position - lower).astype(np.float32)
    return lower, np.stack([1 - above, above], axis=1), _node_count(size, sxy)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    at = np.arange(size)
    return np.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2).astype(np.float32)

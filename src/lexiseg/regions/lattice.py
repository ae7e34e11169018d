"""Gaussian filtering in a few dimensions on the permutohedral lattice."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array

from lexiseg.values.arrays import FloatArray

TABLE_LIMIT = 1 << 26
_AXIS_BITS = 3
_FRACTION = 1 << 24


class PermutohedralLattice:
    """Sum over all points j, weighed by exp(-|f_i - f_j|^2 / 2), for N points in d <= 7 dimensions.

    The permutohedral lattice is the integer lattice of d + 1 dimensions seen along its main diagonal.
    Subtracting the last integer coordinate from the others turns it, by a shear, into the plain integer grid
    of d dimensions, and its simplices into those of the Kuhn triangulation: the vertices around a point are
    its rounded-down position plus, one after another, the unit vectors of its coordinates in descending order
    of their fractions, and the barycentric weights are those fractions' differences.  So every step is
    whole-array arithmetic on d rows, and a lattice neighbour is a fixed distance away in a flat key.

    A blur by (1/2, 1, 1/2) along each of the d + 1 directions has the covariance I / 2 in units of the
    integer lattice, and interpolating in and out adds I / 6: features are scaled by sqrt(2 / 3), the
    square root of the sum.  A neighbour that no point touches counts as empty, as is usual for this lattice.

    Source: Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice", 2010.
    """

    def __init__(self, features: FloatArray) -> None:
        """Prepare for points float32 (d, N), each feature in units of its standard deviation."""
        # The widest axis first keeps the sheared points' bounding box, and so the range of keys, small.
        widest_first = np.argsort(-np.ptp(features, axis=1), kind="stable")
        sheared = _shear(len(features)) @ features[widest_first]
        corner = np.floor(sheared)
        axes, weights = _barycentric(sheared - corner)
        # A margin of one on either side: a step to a neighbour must not wrap into the next row of keys.
        corner += 1 - corner.min(axis=1, keepdims=True)
        extent = [int(top) + 3 for top in corner.max(axis=1)]
        strides = [math.prod(extent[k + 1 :]) for k in range(len(extent))]
        size = math.prod(extent)
        if size >= 1 << 62:
            raise ValueError("the points span too many cells of the lattice, expected larger standard deviations")
        keys = _vertex_keys(corner, axes, strides, np.int32 if size < 1 << 31 else np.int64)
        steps = [*strides, sum(strides)]
        vertices, self._neighbours, count = (
            _index_by_table(keys, steps, size) if size <= TABLE_LIMIT else _index_by_sorting(keys, steps)
        )
        points, corners = weights.shape
        ends = np.arange(0, points * corners + 1, corners, dtype=np.int32)
        self._slice = csr_array((weights.ravel(), vertices.ravel(), ends), shape=(points, count))
        self._splat = self._slice.T

    def __call__(self, values: FloatArray) -> FloatArray:
        """Filter float32 values of the N points, any shape; the result is scaled by an unknown constant."""
        lattice = self._splat @ values.ravel()
        half = np.float32(0.5)
        for here, there in self._neighbours:
            blurred = lattice.copy()
            blurred[here] += half * lattice[there]
            blurred[there] += half * lattice[here]
            lattice = blurred
        filtered: FloatArray = (self._slice @ lattice).reshape(values.shape)
        return filtered


def _shear(dimensions: int) -> FloatArray:
    """Takes points to coordinates in which the scaled lattice is the integers, (d, d)."""
    isometry = np.zeros((dimensions + 1, dimensions))
    for k in range(dimensions):
        isometry[: k + 1, k] = 1
        isometry[k + 1, k] = -(k + 1)
        isometry[:, k] /= math.sqrt((k + 1) * (k + 2))
    sheared = math.sqrt(2 / 3) * (isometry[:-1] - isometry[-1])
    return np.asarray(sheared, np.float32)


def _barycentric(fractions: FloatArray) -> tuple[list[np.ndarray], FloatArray]:
    """Axes in descending order of fraction, d arrays (N,), and the d + 1 vertices' weights (N, d + 1)."""
    dimensions, points = fractions.shape
    # A fraction and its axis share one integer, so a network of minima and maxima sorts both at once.
    packed = (fractions * _FRACTION).astype(np.int32) << _AXIS_BITS
    rows = [row | axis for axis, row in enumerate(packed)]
    for end in range(dimensions - 1, 0, -1):
        for k in range(end):
            larger = np.maximum(rows[k], rows[k + 1])
            rows[k + 1] = np.minimum(rows[k], rows[k + 1])
            rows[k] = larger
    weights = np.empty((points, dimensions + 1), np.float32)
    above: FloatArray | float = 1.0
    for k, row in enumerate(rows):
        fraction = (row >> _AXIS_BITS) * np.float32(1 / _FRACTION)
        weights[:, k] = above - fraction
        above = fraction
    weights[:, dimensions] = above
    return [row & ((1 << _AXIS_BITS) - 1) for row in rows], weights


def _vertex_keys(
    corner: FloatArray, axes: list[np.ndarray], strides: list[int], dtype: type[np.signedinteger]
) -> np.ndarray:
    """The flat keys of each point's d + 1 vertices, (N, d + 1)."""
    step = np.array(strides, dtype)
    keys = np.empty((corner.shape[1], len(axes) + 1), dtype)
    keys[:, 0] = sum(row.astype(dtype) * stride for row, stride in zip(corner, step, strict=True))
    for k, axis in enumerate(axes):
        keys[:, k + 1] = keys[:, k] + step[axis]
    return keys


_Neighbours = list[tuple[np.ndarray, np.ndarray]]


def _index_by_table(keys: np.ndarray, steps: list[int], size: int) -> tuple[np.ndarray, _Neighbours, int]:
    """Number the distinct keys through a table of all possible ones, and pair those that are a step apart."""
    seen = np.zeros(size, np.bool_)
    seen[keys] = True
    distinct = np.flatnonzero(seen)
    number = np.zeros(size, np.int32)
    number[distinct] = np.arange(len(distinct), dtype=np.int32)
    neighbours = []
    for step in steps:
        here = np.flatnonzero(seen[distinct + step])
        neighbours.append((here, number[distinct[here] + step]))
    return number[keys], neighbours, len(distinct)


def _index_by_sorting(keys: np.ndarray, steps: list[int]) -> tuple[np.ndarray, _Neighbours, int]:
    """The same as `_index_by_table`, for a range of keys that is too large for a table."""
    distinct, vertices = np.unique(keys, return_inverse=True)
    neighbours = []
    for step in steps:
        wanted = distinct + step
        at = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
        here = np.flatnonzero(distinct[at] == wanted)
        neighbours.append((here, at[here]))
    return vertices.reshape(keys.shape).astype(np.int32), neighbours, len(distinct)

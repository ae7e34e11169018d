"""Outlines of random shape, smooth random fields and soft edges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from lexiseg.values.arrays import FloatArray

_ANGLES = 512  # a power of two, so that an angle wraps round by masking bits


def coordinates(
    shape: tuple[int, int], *, angle: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[FloatArray, FloatArray]:
    """Pixel centres with the origin in the image's middle and half its shorter side as the unit.

    Args:
        shape: (H, W).
        angle: turns the content, radians, clockwise as displayed.
        zoom: larger than 1 makes the content larger.
        shift: (rows, columns) by which the content moves, in units.

    Returns:
        y (down) and x (right), float32 (H, W).
    """
    unit = min(shape) / 2
    y = ((np.arange(shape[0], dtype=np.float32) + 0.5 - shape[0] / 2) / unit - shift[0]) / zoom
    x = ((np.arange(shape[1], dtype=np.float32) + 0.5 - shape[1] / 2) / unit - shift[1]) / zoom
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    rows, columns = y[:, None].astype(np.float32), x[None, :].astype(np.float32)
    return c * rows - s * columns, s * rows + c * columns


def harmonic_profile(rng: np.random.Generator, amplitude: float, orders: Sequence[int] = (2, 3, 4, 5)) -> FloatArray:
    """Radius of a wobbly circle by angle, float32 (512,), mean 1; higher orders are weaker."""
    phi = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    radius = np.ones(_ANGLES)
    for k in orders:
        radius += amplitude * rng.normal() / k * np.cos(k * phi + rng.uniform(0, 2 * np.pi)) * 2
    return np.maximum(radius, 0.35).astype(np.float32)


def spiky_profile(rng: np.random.Generator, spikes: int, height: float) -> FloatArray:
    """Radius of a spiculated outline by angle: a wobbly circle with narrow outward points, float32 (512,)."""
    phi = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    radius = harmonic_profile(rng, 0.12).astype(np.float64)
    for k in range(spikes):
        at = (k + rng.uniform(-0.35, 0.35)) * 2 * np.pi / spikes
        away = np.abs((phi - at + np.pi) % (2 * np.pi) - np.pi)
        radius += height * rng.uniform(0.3, 1.0) * np.exp(-away / rng.uniform(0.05, 0.14))
    return radius.astype(np.float32)


def area_factor(profile: FloatArray) -> float:
    """Area of an outline of that profile, as a multiple of the plain ellipse's: mean of radius squared."""
    return float(np.mean(np.square(profile, dtype=np.float64)))


def blob(
    y: FloatArray,
    x: FloatArray,
    *,
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float = 0.0,
    profile: FloatArray | None = None,
) -> FloatArray:
    """Level of a star-shaped outline: 0 at its centre, 1 on its border, larger outside.

    Args:
        y, x: where to evaluate, float32, broadcastable.
        centre: (y, x) of the middle.
        axes: half axes along (y, x) before turning.
        angle: turns the shape, radians, clockwise as displayed.
        profile: radius factor by angle, as made by `harmonic_profile`; None for an ellipse.

    Returns:
        float32 of the broadcast shape.
    """
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    v, u = (c * dy - s * dx) / np.float32(axes[0]), (s * dy + c * dx) / np.float32(axes[1])
    radius = np.asarray(np.sqrt(u * u + v * v), np.float32)
    if profile is None:
        return radius
    step = np.arctan2(v, u) * np.float32(_ANGLES / (2 * np.pi)) + np.float32(_ANGLES + 0.5)
    return np.asarray(radius / profile[step.astype(np.int32) & (_ANGLES - 1)], np.float32)


def segment_distance(y: FloatArray, x: FloatArray, start: tuple[float, float], end: tuple[float, float]) -> FloatArray:
    """Distance to the straight piece between two points (y, x), float32."""
    ey, ex = end[0] - start[0], end[1] - start[1]
    dy, dx = y - np.float32(start[0]), x - np.float32(start[1])
    squared = max(ey * ey + ex * ex, 1e-12)
    along = dy * np.float32(ey / squared) + dx * np.float32(ex / squared)
    along = np.minimum(np.maximum(along, 0), 1)
    dy, dx = dy - along * np.float32(ey), dx - along * np.float32(ex)
    return np.asarray(np.sqrt(dy * dy + dx * dx), np.float32)


# Mean over a cell of the sum of squares of the four cubic B-spline weights, 151/315: the variance that white
# noise keeps per axis.
_KEPT_VARIANCE = 151 / 315


@lru_cache(maxsize=256)
def _spline_basis(length: int, cells: int) -> FloatArray:
    """Uniform cubic B-spline weights, float32 (length, cells + 3)."""
    t = (np.arange(length) + 0.5) / length * cells
    cell = np.minimum(t.astype(np.intp), cells - 1)
    f = t - cell
    weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    basis = np.zeros((length, cells + 3), np.float32)
    for k, weight in enumerate(weights):
        basis[np.arange(length), cell + k] = weight / 6
    basis.setflags(write=False)
    return basis


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]) -> FloatArray:
    """Gaussian noise of unit variance with about `cells` independent values along (rows, columns).

    A cubic B-spline through white noise, as two small matrix products: the cost hardly depends on smoothness.

    Returns:
        float32 of the given shape.
    """
    rows, columns = (max(1, round(c)) for c in cells)
    knots = rng.standard_normal((rows + 3, columns + 3), dtype=np.float32)
    field = _spline_basis(shape[0], rows) @ knots @ _spline_basis(shape[1], columns).T
    return np.asarray(field / np.float32(_KEPT_VARIANCE), np.float32)


def smooth_curve(rng: np.random.Generator, length: int, cells: float) -> FloatArray:
    """Like `smooth_noise` in one dimension: float32 (length,)."""
    knots = rng.standard_normal(max(1, round(cells)) + 3, dtype=np.float32)
    curve = _spline_basis(length, len(knots) - 3) @ knots
    return np.asarray(curve / np.float32(_KEPT_VARIANCE**0.5), np.float32)


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: tuple[float, float],
    *,
    octaves: int = 3,
    gain: float = 0.5,
) -> FloatArray:
    """Sum of `octaves` of `smooth_noise`, each twice as fine and `gain` times as strong; unit variance."""
    total = np.zeros(shape, np.float32)
    for k in range(octaves):
        total += np.float32(gain**k) * smooth_noise(rng, shape, (cells[0] * 2**k, cells[1] * 2**k))
    return total / np.float32(sum(gain ** (2 * k) for k in range(octaves)) ** 0.5)


@lru_cache(maxsize=64)
def _gaussian_rows(length: int, sigma: float) -> FloatArray:
    """Gaussian smoothing along an axis as a matrix, float32 (length, length); all rows sum to 1."""
    at = np.arange(length)
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def wide_blur(image: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur as two matrix products: for a sigma of many pixels faster than any convolution."""
    rows, columns = (_gaussian_rows(length, round(sigma, 3)) for length in image.shape)
    return np.asarray(rows @ image @ columns.T, np.float32)


def ridges(field: FloatArray, width: float) -> FloatArray:
    """1 on the zero contours of a field, falling off as exp(-(field / width)^2): septa, folds, vessels."""
    t = field / np.float32(width)
    return np.asarray(np.exp(-(t * t)), np.float32)


def soft_below(level: ArrayLike, at: ArrayLike, width: float) -> FloatArray:
    """1 where `level` is below `at`, 0 above, with a smooth step of that width between."""
    t = np.asarray(at, np.float32) - np.asarray(level, np.float32)
    t *= np.float32(1 / width)
    t += np.float32(0.5)
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    step = np.float32(3) - np.float32(2) * t
    step *= t
    step *= t
    return np.asarray(step, np.float32)


def band(level: ArrayLike, centre: ArrayLike, half_width: ArrayLike) -> FloatArray:
    """A bump exp(-((level - centre) / half_width)^2)."""
    t = (np.asarray(level, np.float32) - np.asarray(centre, np.float32)) / np.asarray(half_width, np.float32)
    return np.asarray(np.exp(-(t * t)), np.float32)


def mix(under: ArrayLike, over: ArrayLike, alpha: ArrayLike) -> FloatArray:
    """`over` painted on `under` with the opacity `alpha`."""
    base = np.asarray(under, np.float32)
    return np.asarray(base + (np.asarray(over, np.float32) - base) * np.asarray(alpha, np.float32), np.float32)

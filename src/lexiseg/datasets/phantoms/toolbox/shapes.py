"""Outlines: coordinates and random blobs, as level functions that are below 1 inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lexiseg.scans.scan import FloatArray

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


def harmonic_profile(
    rng: np.random.Generator, amplitude: float, orders: Sequence[int] = (2, 3, 4, 5)
) -> FloatArray:
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


def segment_distance(
    y: FloatArray, x: FloatArray, start: tuple[float, float], end: tuple[float, float]
) -> FloatArray:
    """Distance to the straight piece between two points (y, x), float32."""
    ey, ex = end[0] - start[0], end[1] - start[1]
    dy, dx = y - np.float32(start[0]), x - np.float32(start[1])
    squared = max(ey * ey + ex * ex, 1e-12)
    along = dy * np.float32(ey / squared) + dx * np.float32(ex / squared)
    along = np.minimum(np.maximum(along, 0), 1)
    dy, dx = dy - along * np.float32(ey), dx - along * np.float32(ex)
    return np.asarray(np.sqrt(dy * dy + dx * dx), np.float32)

"""Geometry of a head in an axial, a coronal or a sagittal slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import band, smooth_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob, coordinates, harmonic_profile
from lexiseg.scans.scan import FloatArray

_ZOOM = {"axial": (0.78, 0.98), "coronal": (0.64, 0.92), "sagittal": (0.64, 0.88)}
PLANES: tuple[str, ...] = tuple(_ZOOM)


@dataclass(frozen=True, eq=False)
class Head:
    """A slice; float32 (H, W) fields.

    Attributes:
        plane: one of `PLANES`.
        y, x: warped coordinates, down and right, in half head heights from the image's middle.
        brain: level of the brain: below 1 inside.
        outer: level of the head's outline: below 1 inside.
        face: 1 where flesh of face or neck replaces the skull, 0 elsewhere.
        ventricles: level of the ventricles: below 1 inside.
        fissure: opacity of fissures between the lobes.
        sella: (y, x) of the pituitary gland.
    """

    plane: str
    y: FloatArray
    x: FloatArray
    brain: FloatArray
    outer: FloatArray
    face: FloatArray
    ventricles: FloatArray
    fissure: FloatArray
    sella: tuple[float, float]


def draw_head(draw: Draw) -> Head:
    """A head in a random plane, pose and shape."""
    plane = draw.choice("plane", PLANES, (5, 3, 3))
    y, x = coordinates(
        draw.shape,
        angle=draw.uniform(-0.12, 0.12) if draw.chance(0.85) else draw.uniform(-0.5, 0.5),
        zoom=draw.uniform(*_ZOOM[plane]),
        shift=(draw.uniform(-0.05, 0.05), draw.uniform(-0.05, 0.05)),
    )
    y = y + np.float32(0.02) * smooth_noise(draw.rng, draw.shape, (4, 4))
    x = x + np.float32(0.02) * smooth_noise(draw.rng, draw.shape, (4, 4))
    return {"axial": _axial, "coronal": _coronal, "sagittal": _sagittal}[plane](draw, y, x)


def _wobble(draw: Draw) -> FloatArray:
    return harmonic_profile(draw.rng, 0.012, (2, 3, 4))


def _shell(draw: Draw) -> np.float32:
    """The brain's share of the head's radius: the rest is fluid, bone and scalp."""
    return np.float32(draw.uniform(0.84, 0.89))


def _slit(away: ArrayLike, path: ArrayLike, half_width: float, taper: FloatArray) -> FloatArray:
    """Level of a curved slit about `path`, narrowing to points where `taper` falls to 0."""
    # Beyond the points the slit's width is 0 and the ratio noisy: the last term keeps the level above 1.
    level = (
        np.abs(np.asarray(away) - path) / (half_width * np.sqrt(taper) + 1e-6)
        + 0.2 * (1 - taper)
        + (taper <= 0)
    )
    return np.asarray(level, np.float32)


def _axial(draw: Draw, y: FloatArray, x: FloatArray) -> Head:
    blunt = 1 + draw.uniform(-0.02, 0.08) * y + draw.uniform(0.0, 0.14) * y * y
    outer = blob(
        y,
        np.asarray(x / blunt, np.float32),
        centre=(0, 0),
        axes=(0.98, draw.uniform(0.72, 0.84)),
        profile=_wobble(draw),
    )
    away = np.abs(x - 0.02 * np.sin(2 * y))
    path = 0.06 + draw.uniform(0.35, 0.9) * (y + 0.02) ** 2 + 0.1 * np.maximum(y, 0)
    taper = np.clip(1 - ((y + 0.02) / draw.uniform(0.36, 0.5)) ** 2, 0, 1)
    lateral = _slit(away, path, draw.uniform(0.05, 0.11), taper)
    third = np.maximum(away / 0.022, np.abs(y - 0.12) / 0.14)
    above = draw.chance(0.25)  # a slice above the ventricles, where the fissure runs all the way
    return Head(
        plane="axial",
        y=y,
        x=x,
        brain=outer / _shell(draw),
        outer=outer,
        face=np.zeros_like(y),
        ventricles=np.full_like(y, 9.0) if above else np.minimum(lateral, third),
        fissure=band(x, 0.0, 0.016) * (1.0 if above else soft_below(-np.abs(y), -0.3, 0.2)),
        sella=(-0.02, 0.0),
    )


def _coronal(draw: Draw, y: FloatArray, x: FloatArray) -> Head:
    cap = blob(y, x, centre=(-0.25, 0), axes=(0.95, 0.9), profile=_wobble(draw))
    base = draw.uniform(0.18, 0.3) + 0.12 * np.cos(np.float32(2.6) * x)
    jaw = np.maximum(np.abs(x) / (0.8 - 0.12 * np.clip(y, 0, 2)), (-0.2 - y) * 3 + 0.9)
    away = np.abs(x)
    path = 0.05 + draw.uniform(0.22, 0.4) * np.clip(-(y + 0.1), 0, 1)
    lateral = _slit(away, path, draw.uniform(0.04, 0.09), np.clip(1 - ((y + 0.3) / 0.17) ** 2, 0, 1))
    third = np.maximum(away / 0.02, np.abs(y + 0.02) / 0.12)
    return Head(
        plane="coronal",
        y=y,
        x=x,
        brain=_cut(cap, y, base) / _shell(draw),
        outer=np.minimum(cap, jaw),
        face=soft_below(-y, -base, 0.1),
        ventricles=np.minimum(lateral, third),
        fissure=band(x, 0.0, 0.016) * soft_below(y, -0.55, 0.1),
        sella=(0.24, 0.0),
    )


def _sagittal(draw: Draw, y: FloatArray, x: FloatArray) -> Head:
    x = x * np.float32(draw.sign() if draw.chance(0.3) else 1.0)
    cap = blob(y, x, centre=(-0.25, 0.05), axes=(0.92, 1.05), profile=_wobble(draw))
    base = 0.14 + 0.26 * np.clip(x + 0.1, -0.4, 0.75) + 0.05 * np.sin(6 * x)
    front = -0.86 + 0.08 * np.sin(9 * y)  # nose, lips and chin
    rear = 0.55 - 0.15 * np.clip(y - 0.3, 0, 1)
    neck = np.maximum(np.abs(x - (front + rear) / 2) / ((rear - front) / 2), (-0.1 - y) * 3 + 0.9)
    bow = blob(y, x, centre=(-0.08, 0.0), axes=(0.3, 0.46))
    cerebellum = blob(y, x, centre=(0.12, 0.52), axes=(0.26, 0.34))
    return Head(
        plane="sagittal",
        y=y,
        x=x,
        brain=_cut(cap, y, base) / _shell(draw),
        outer=np.minimum(cap, neck),
        face=soft_below(-y, -base, 0.1),
        ventricles=np.maximum(np.abs(bow - 0.72) / 0.12, (y + 0.12) / 0.12 + 0.5),
        fissure=0.6 * band(cerebellum, 1.0, 0.05),
        sella=(0.24, -0.16),
    )


def _cut(cap: FloatArray, y: FloatArray, base: FloatArray) -> FloatArray:
    """The skull cap's level, rising steeply below the skull's base."""
    return np.asarray(cap * (1 + np.clip((y - base) * 5, 0, 3)), np.float32)

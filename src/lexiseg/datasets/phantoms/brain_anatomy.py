"""A head in each plane, its tissues in each contrast, and the brain tumors that grow in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lexiseg.datasets.phantoms.phantom import Draw
from lexiseg.datasets.phantoms.shapes import (
    band,
    blob,
    coordinates,
    fractal_noise,
    harmonic_profile,
    mix,
    ridges,
    smooth_noise,
    soft_below,
)
from lexiseg.values.arrays import BoolArray, FloatArray

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
    level = np.abs(np.asarray(away) - path) / (half_width * np.sqrt(taper) + 1e-6) + 0.2 * (1 - taper) + (taper <= 0)
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


_TISSUES = ("scalp", "bone", "csf", "grey", "white", "edema", "muscle")
SIGNAL: Mapping[str, Mapping[str, float]] = {
    contrast: dict(zip(_TISSUES, values, strict=True))
    for contrast, values in {
        "T1": (0.9, 0.06, 0.12, 0.46, 0.66, 0.38, 0.42),
        "contrast-enhanced T1": (0.8, 0.05, 0.12, 0.33, 0.38, 0.26, 0.4),
        "T2": (0.75, 0.05, 0.95, 0.5, 0.36, 0.82, 0.25),
        "FLAIR": (0.8, 0.05, 0.08, 0.44, 0.36, 0.7, 0.3),
    }.items()
}
"""Signal of each tissue by contrast, white being 1."""


def paint_tissues(draw: Draw, head: Head, contrast: str) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Signal of a healthy head, float32 (H, W), and the masks of its parts."""
    signal = SIGNAL[contrast]
    lobes = smooth_noise(draw.rng, draw.shape, (4, 4))
    inner = draw.uniform(1.02, 1.05)  # of the skull, as a level of the brain
    rim = draw.uniform(0.93, 0.96)  # of the scalp, as a level of the head
    shell = mix(signal["csf"], signal["bone"], soft_below(-head.brain, -inner, 0.02))
    marrow = 0.35 * signal["scalp"] * band(head.outer, rim - 0.035, 0.008) * (lobes > -0.3)
    skin = soft_below(-head.outer, -rim, 0.015)
    shell = mix(shell + marrow, signal["scalp"] * (1 + 0.12 * lobes), skin)
    shell = mix(shell, _flesh(draw, signal), head.face * soft_below(-head.brain, -1.06, 0.04) * (1 - skin))
    value = mix(shell, _brain(draw, head, contrast, lobes), soft_below(head.brain, 1.0, 0.015))
    masks = {
        "head": head.outer < 1,
        "brain": (head.brain < 1) & (head.outer < 1),
        "skull": (head.brain >= inner) & (head.outer < rim) & (head.face < 0.5),
        "ventricles": (head.ventricles < 1) & (head.brain < 0.8),
    }
    value = mix(0.0, value, soft_below(head.outer, 1.0, 0.015))
    return value, {name: mask for name, mask in masks.items() if mask.any()}


def _brain(draw: Draw, head: Head, contrast: str, lobes: FloatArray) -> FloatArray:
    """White matter, and a folded cortex that thins out towards the middle."""
    signal = SIGNAL[contrast]
    folds = smooth_noise(draw.rng, draw.shape, (draw.uniform(15, 24), draw.uniform(15, 24)))
    depth = np.clip((1 - head.brain) / np.float32(draw.uniform(0.28, 0.42)), 0, 1)  # 0 at the surface
    spread = np.float32(draw.uniform(0.35, 0.6)) * (1 - depth) ** np.float32(0.7)
    away = np.abs(folds + 0.4 * lobes)  # from the nearest sulcus
    sulci = soft_below(away, spread * draw.uniform(0.1, 0.45), 0.15) * soft_below(depth, 0.8, 0.3)
    cortex = soft_below(away, spread + 0.1, 0.35) * soft_below(depth, 0.9, 0.3)
    cortex = np.maximum(cortex, soft_below(1 - head.brain, 0.05, 0.03))
    value = mix(signal["white"], signal["grey"], cortex)
    if head.plane != "sagittal":
        for side in (-1, 1):
            nucleus = blob(head.y, head.x, centre=(0.02, side * 0.24), axes=(0.2, 0.1), angle=side * -0.25)
            middle = 0.5 * (signal["grey"] + signal["white"])
            value = mix(value, middle, 0.8 * soft_below(nucleus, 1.0, 0.3))
    value = value * (1 + 0.03 * fractal_noise(draw.rng, draw.shape, (16, 16)))
    value = mix(value, signal["csf"], sulci * draw.uniform(0.45, 0.9))
    value = mix(value, signal["csf"], np.clip(0.9 * head.fissure, 0, 1))
    if contrast == "contrast-enhanced T1":
        vessels = ridges(smooth_noise(draw.rng, draw.shape, (18, 18)), 0.12)
        value = mix(value, 0.7, draw.uniform(0.2, 0.8) * vessels * soft_below(-np.abs(folds), -1.3, 0.5))
    return mix(value, signal["csf"], soft_below(head.ventricles, 1.0, 0.35) * (head.brain < 0.8))


def _flesh(draw: Draw, signal: Mapping[str, float]) -> FloatArray:
    """Muscle, fat and air of face and neck: a clutter no model should take for brain."""
    clutter = fractal_noise(draw.rng, draw.shape, (11, 11), octaves=3, gain=0.7)
    fat = ridges(smooth_noise(draw.rng, draw.shape, (20, 20)) + 0.4 * clutter, 0.3)
    flesh = signal["muscle"] * (1 + 0.45 * clutter) + draw.uniform(0.1, 0.4) * signal["scalp"] * fat
    return mix(flesh, signal["bone"], soft_below(-clutter, -0.9, 0.5))


AREAS = {"small": (0.003, 0.011), "medium": (0.014, 0.033), "large": (0.037, 0.07)}
"""Fractions of the image's area."""

# Kind: levels of the brain where its middle may lie, how wobbly its outline, how far it may grow.
_HABITS = {
    "glioma": ((0.0, 0.72), 0.22, 1.0),
    "meningioma": ((0.82, 0.97), 0.07, 1.0),
    "pituitary tumor": (None, 0.1, 1.6),
}
KINDS: tuple[str, ...] = tuple(_HABITS)


@dataclass(frozen=True, eq=False)
class Lesion:
    """A tumor painted on a head: the new signal, the masks by phrase, and how it looks in a word."""

    value: FloatArray
    structures: dict[str, BoolArray]
    look: str


def paint_lesion(draw: Draw, head: Head, value: FloatArray, *, kind: str, contrast: str) -> Lesion:
    """A tumor in its place: gliomas inside, meningiomas on the border, pituitary tumors at the sella."""
    _, rough, limit = _HABITS[kind]
    level = _outline(draw, head, kind, rough)
    mask = (level < 1) & (head.brain < limit) & (head.outer < 1)
    grain = fractal_noise(draw.rng, draw.shape, (14, 14))
    structures: dict[str, BoolArray] = {"brain tumor": mask, kind: mask}
    if kind == "glioma" and "T1" in contrast:
        value, edema = _swell(draw, head, value, level=level, grain=grain, signal=SIGNAL[contrast]["edema"])
        if edema.any():
            structures["edema"] = edema
    inner, look = (_glioma if kind == "glioma" else _solid)(draw, level, grain, contrast)
    soft = soft_below(level, 1.0, 0.25 if kind == "glioma" else 0.12) * soft_below(head.brain, limit, 0.03)
    value = mix(value, inner, soft)
    if kind == "meningioma":  # a cleft of fluid sets it off from the brain
        cleft = band(level, 1.06, 0.05) * soft_below(head.brain, 0.97, 0.03)
        value = mix(value, SIGNAL[contrast]["csf"], 0.5 * cleft)
    return Lesion(value, structures, look)


def _outline(draw: Draw, head: Head, kind: str, rough: float) -> FloatArray:
    """Level of the tumor, below 1 inside."""
    size = draw.choice("finding_size", ("small", "medium", "large"), (4, 4, 3 if kind != "pituitary tumor" else 0))
    y, x = coordinates(draw.shape)
    radius = (draw.uniform(*AREAS[size]) * x.size / np.pi) ** 0.5 / (min(draw.shape) / 2)
    span = _HABITS[kind][0]
    if span is None:
        at = int(np.argmin(np.hypot(head.y - head.sella[0], head.x - head.sella[1])))
    else:
        free = ((head.brain >= span[0]) & (head.brain < span[1]) & (head.outer < 1)).ravel().nonzero()[0]
        where = draw.uniform(0, 1)
        at = int(free[int(where * len(free))]) if len(free) else int(np.argmin(head.brain))
    stretch = draw.uniform(0.8, 1.2)
    level = blob(
        y,
        x,
        centre=(float(y.ravel()[at]), float(x.ravel()[at])),
        axes=(radius * stretch, radius / stretch),
        angle=draw.uniform(0, 3),
        profile=harmonic_profile(draw.rng, rough),
    )
    ragged = 0.12 if kind == "glioma" else 0.02
    return level * (1 + np.float32(ragged) * smooth_noise(draw.rng, draw.shape, (20, 20)))


def _swell(
    draw: Draw, head: Head, value: FloatArray, *, level: FloatArray, grain: FloatArray, signal: float
) -> tuple[FloatArray, BoolArray]:
    """Edema around the tumor: the new signal, and its mask (without the tumor)."""
    reach = level - draw.uniform(0.3, 0.8) * np.clip(1 + 0.5 * grain, 0, 2)
    edema = soft_below(reach, 1.0, 0.5) * soft_below(head.brain, 0.97, 0.04)
    mask = (edema > 0.5) & (level >= 1) & (head.brain < 1)
    return mix(value, signal, 0.8 * edema * (1 - soft_below(level, 1.0, 0.1))), mask


def _glioma(draw: Draw, level: FloatArray, grain: FloatArray, contrast: str) -> tuple[FloatArray, str]:
    """Signal inside a glioma, and a word for it."""
    if contrast == "T1":
        return 0.26 + 0.05 * grain, "hypointense"
    if contrast == "contrast-enhanced T1":
        look = draw.choice("look", ("ring-enhancing", "heterogeneously enhancing", "non-enhancing"), (5, 3, 2))
        if look == "heterogeneously enhancing":
            return 0.5 + 0.25 * grain, look
        if look == "non-enhancing":
            return 0.2 + 0.05 * grain, look
        ring = draw.uniform(0.4, 0.75) * band(level, 0.84, draw.uniform(0.1, 0.2))
        return 0.14 + 0.05 * grain + ring * (1 + 0.25 * grain), look
    inner = draw.uniform(0.72, 0.95) + 0.08 * grain
    if draw.chance(0.35):  # a cyst or a dead centre
        hollow = soft_below(level * (1 + 0.3 * grain), draw.uniform(0.3, 0.5), 0.2)
        inner = mix(inner, SIGNAL[contrast]["csf"] + 0.1, hollow)
    return inner, "hyperintense"


def _solid(draw: Draw, level: FloatArray, grain: FloatArray, contrast: str) -> tuple[FloatArray, str]:
    """Signal inside a meningioma or a pituitary tumor, and a word for it."""
    del level  # solid all through
    if contrast == "T1":
        return 0.4 + 0.05 * grain, "hypointense"
    if contrast == "contrast-enhanced T1":
        return draw.uniform(0.62, 0.9) + 0.05 * grain, "homogeneously enhancing"
    return (0.66 if contrast == "T2" else 0.68) + 0.05 * grain, "hyperintense"

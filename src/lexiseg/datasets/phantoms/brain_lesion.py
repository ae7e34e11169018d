"""Brain tumors: where each kind grows, and how it looks in each contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.brain_head import Head
from lexiseg.datasets.phantoms.brain_tissue import SIGNAL
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import band, fractal_noise, mix, smooth_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob, coordinates, harmonic_profile
from lexiseg.scans.scan import BoolArray, FloatArray

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
    size = draw.choice(
        "finding_size", ("small", "medium", "large"), (4, 4, 3 if kind != "pituitary tumor" else 0)
    )
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
        look = draw.choice(
            "look", ("ring-enhancing", "heterogeneously enhancing", "non-enhancing"), (5, 3, 2)
        )
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

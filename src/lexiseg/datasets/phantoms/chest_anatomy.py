"""Anatomy of a chest seen from the front, as thickness along the beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import band, mix, ridges, smooth_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob, coordinates, harmonic_profile, segment_distance
from lexiseg.scans.scan import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Thorax:
    """Where things are in a chest; float32 (H, W) fields.

    The chest's own coordinates have the half width of the chest as the unit of x, and of y the lungs' height.

    Attributes:
        x: from the midline to the right of the image, which is the patient's left.
        y: down, 0 at the lungs' apices, about 1 at their bases.
        spine: x from the spine, which may be bent.
        wall: how far from the midline the lateral chest wall is, at each y.
        dome: y of the diaphragm, at each x.
        lung: depth inside the lung fields: 0 on their border, 1 where they are full thick, negative outside.
        heart: level of the heart: below 1 inside.
        mediastinum: distance outside the mediastinum, negative inside.
        fields: the lung fields, bool (H, W): lung that neither heart, mediastinum nor diaphragm covers.
    """

    x: FloatArray
    y: FloatArray
    spine: FloatArray
    wall: FloatArray
    dome: FloatArray
    lung: FloatArray
    heart: FloatArray
    mediastinum: FloatArray
    fields: BoolArray


def draw_thorax(draw: Draw) -> Thorax:
    """A chest in a random pose and shape."""
    rows, columns = draw.shape
    half_height, half_width = rows / min(rows, columns), columns / min(rows, columns)
    y, x = coordinates(draw.shape, angle=draw.uniform(-0.06, 0.06))
    width = draw.uniform(0.66, 0.9) * half_width
    height = min(draw.uniform(1.25, 1.75) * width, 1.55 * half_height)
    top = -half_height + draw.uniform(0.3, 0.75) * max(2 * half_height - height - 0.2, 0.1)
    x = x / np.float32(width) - np.float32(draw.uniform(-0.06, 0.06))
    y = (y - np.float32(top)) / np.float32(height)
    spine = x - np.float32(draw.uniform(-0.06, 0.06)) * np.sin(np.float32(np.pi) * y)
    warp = np.float32(0.012) * smooth_noise(draw.rng, draw.shape, (4, 4))
    x, y = x + warp, y + np.float32(0.5) * warp
    away, down = np.abs(x), np.clip(y, 0, 1)

    # Both walls of a lung start at its apex: one curves out to the ribs, the other to the mediastinum.
    apex = draw.uniform(0.36, 0.44)
    shoulder = np.clip(1 - down / np.float32(draw.uniform(0.45, 0.85)), 0, 1)
    wide = draw.uniform(0.9, 0.97) + draw.uniform(-0.06, 0.14) * (down - 0.5)
    wall = apex + (wide - apex) * np.sqrt(1 - shoulder ** draw.uniform(2.0, 2.6))
    neck = np.clip(1 - down / 0.16, 0, 1)
    medial = apex - (apex - draw.uniform(0.13, 0.2)) * np.sqrt(1 - neck**2)
    medial += draw.uniform(0.0, 0.1) * band(y, 0.27, 0.07) * (spine > 0)  # the aortic arch
    medial += draw.uniform(0.0, 0.07) * band(y, 0.45, 0.12)  # the hila
    # The right dome of the diaphragm stands higher: the liver is under it.
    lift = mix(draw.uniform(-0.02, 0.03), draw.uniform(0.02, 0.07), soft_below(x, 0.0, 0.4))
    dome = 1 - lift - draw.uniform(0.13, 0.26) * (1 - ((np.maximum(away, 0.4) - 0.5) / 0.55) ** 2)
    heart = blob(
        y,
        x,
        centre=(draw.uniform(0.66, 0.74), draw.uniform(0.1, 0.2)),
        axes=(draw.uniform(0.22, 0.28), draw.uniform(0.34, 0.46)),
        angle=draw.uniform(0.3, 0.7),
        profile=harmonic_profile(draw.rng, 0.03, (2, 3)),
    )
    lung = np.minimum(np.minimum(wall - away, away - medial), np.minimum((dome - y) * 1.3, y * 2))
    return Thorax(
        x=x,
        y=y,
        spine=spine,
        wall=wall,
        dome=np.asarray(dome, np.float32),
        lung=np.asarray(lung / draw.uniform(0.1, 0.2), np.float32),
        heart=heart,
        mediastinum=away - medial,
        fields=(lung > 0) & (heart >= 1),
    )


def draw_ribs(draw: Draw, chest: Thorax) -> tuple[FloatArray, BoolArray]:
    """Thickness of the ribs, and the mask of their posterior parts.

    Posterior ribs fall from the spine to the sides; anterior ones, fainter, from the sides to the middle.
    """
    x, y = np.abs(chest.x), chest.y
    pitch = draw.uniform(0.09, 0.12)
    wobble = np.float32(0.08) * smooth_noise(draw.rng, draw.shape, (5, 4))
    # Upper ribs are shorter and bend down sooner than lower ones.
    fall = draw.uniform(0.22, 0.36) * (1.25 - 0.5 * np.clip(y, 0, 1))
    arc = 0.05 * np.sin(np.minimum(x, 0.9) * 4.2) + fall * np.maximum(x - 0.25, 0) ** 1.6
    rear, inside = _bars((y + 0.06 - arc) / pitch + wobble, draw.uniform(0.42, 0.54))
    slope = draw.uniform(0.35, 0.5)
    fore, _ = _bars((y + slope * x - 0.6) / (pitch * 1.2) + wobble, draw.uniform(0.35, 0.45))

    cage = soft_below(x, chest.wall + 0.03, 0.06) * soft_below(-y, 0.03, 0.05)
    cage *= soft_below(y, chest.dome + 0.12, 0.2)
    rear = rear * cage * soft_below(-x, -0.08, 0.05)
    fore = fore * cage * soft_below(-x, -draw.uniform(0.35, 0.5), 0.2)
    fore = fore * soft_below(y, 0.8, 0.3) * soft_below(-y, -0.15, 0.2)
    # Where ribs turn forward the beam runs along them: a bright line down the side.
    rim = band(x, chest.wall + 0.02, 0.035) * soft_below(-y, -0.08, 0.1) * soft_below(y, 1.05, 0.2)
    bone = rear * draw.uniform(0.6, 1.0) + fore * draw.uniform(0.15, 0.5) + rim * (0.35 + 0.5 * rear)
    mask = (inside > 0.5) & (x < chest.wall + 0.03) & (x > 0.1) & (y > 0) & (y < chest.dome)
    return np.asarray(bone, np.float32), mask


def _bars(phase: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
    """Bars around each half-integer phase, `share` of a period wide: thickness (dense rims), and opacity."""
    off = np.abs(phase - np.floor(phase) - np.float32(0.5))
    body = soft_below(off, share / 2, 0.12)
    return 0.55 * body + 0.45 * band(off, share / 2 - 0.06, 0.06), body


def draw_spine(draw: Draw, chest: Thorax) -> FloatArray:
    """Thickness of the vertebral column."""
    away, width = np.abs(chest.spine), draw.uniform(0.09, 0.12)
    discs = 0.8 + 0.2 * np.cos(np.float32(2 * np.pi / draw.uniform(0.085, 0.11)) * chest.y)
    pedicles = band(away, width * 0.7, 0.025) * np.maximum(discs, 0.8)
    return np.asarray(soft_below(away, width, 0.05) * (0.65 * discs + 0.2 * pedicles), np.float32)


def draw_body(draw: Draw, chest: Thorax) -> FloatArray:
    """Thickness of the body as if it had no lungs: 1 in the middle of the chest, 0 beside it."""
    x, y = np.abs(chest.x), chest.y
    # From neck to shoulder the outline is one smooth curve: high near the spine, falling to the arms.
    neck = draw.uniform(0.24, 0.34)
    outline = draw.uniform(-0.22, -0.12) + 0.35 * np.clip(x - 0.5, 0, 2) ** 2
    outline = outline - 0.5 * np.exp(-((x / np.float32(neck * 1.3)) ** 3))
    arms = draw.uniform(0.3, 0.6) * soft_below(y, draw.uniform(0.1, 0.35), 0.7)
    flank = np.clip(x / (draw.uniform(1.12, 1.3) + arms), 0, 1)
    bulk = np.clip(1 - flank ** np.float32(3.5), 0, 1) ** np.float32(0.6)
    deep = np.clip((y - outline) / np.float32(draw.uniform(0.35, 0.6)), 0, 1)
    column = np.sqrt(np.clip(1 - (x / np.float32(neck)) ** 2, 0, 1)) * soft_below(y, -0.05, 0.3)
    soft = np.maximum(0.92 * np.sqrt(deep) * bulk, draw.uniform(0.55, 0.7) * column)
    return np.asarray(soft * (1 + 0.12 * np.clip(y, 0, 1)), np.float32)


def draw_shoulders(draw: Draw, chest: Thorax) -> FloatArray:
    """Thickness of clavicles, shoulder blades and upper arms."""
    x, y = np.abs(chest.x), chest.y
    start, rise = draw.uniform(0.12, 0.22), draw.uniform(-0.04, 0.08)
    # A clavicle is two pieces with a bend, like a lazy S.
    bend = ((start + rise) * 0.45 + 0.02, 0.5)
    bone = np.zeros(x.shape, np.float32)
    for ends in (((start, 0.1), bend), (bend, (rise * 0.5, draw.uniform(0.78, 0.95)))):
        away = segment_distance(y, x, *ends)
        bone = np.maximum(bone, 0.55 * soft_below(away, 0.03, 0.02) + 0.3 * band(away, 0.026, 0.01))
    blade = segment_distance(y, x, (0.0, 1.0), (0.45, draw.uniform(0.88, 1.0)))
    bone += 0.2 * soft_below(blade, 0.09, 0.08) + 0.2 * band(blade, 0.085, 0.02) * (x > chest.wall)
    arm = segment_distance(y, x, (-0.02, 1.12), (0.9, draw.uniform(1.3, 1.6)))
    bone += 0.35 * soft_below(arm, 0.09, 0.04) + 0.25 * band(arm, 0.08, 0.025)
    return bone


def draw_vessels(draw: Draw, chest: Thorax) -> FloatArray:
    """Thickness of the vessels: they branch from the hila and fade on their way out."""
    x, y = np.abs(chest.x) - np.float32(0.22), chest.y - np.float32(0.45)
    reach = x * x + np.float32(1.44) * y * y
    wavy = 1.6 * smooth_noise(draw.rng, draw.shape, (7, 7))
    fan = np.sin(np.arctan2(y, x) * np.float32(draw.uniform(7, 10)) + wavy + 3 * np.sign(chest.x))
    mesh = smooth_noise(draw.rng, draw.shape, (26, 26)) + 0.4 * wavy
    vessels = 0.14 * ridges(fan, 0.3) * np.exp(reach * np.float32(-1 / 0.42**2))
    vessels += 0.1 * ridges(mesh, 0.25) * np.exp(reach * np.float32(-1 / 0.6**2))
    return np.asarray(vessels + 0.16 * np.exp(-reach / np.float32(draw.uniform(0.1, 0.16) ** 2)), np.float32)

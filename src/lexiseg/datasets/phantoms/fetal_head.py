"""A fetal head in the transthalamic plane: skull, midline, cavum and choroid plexus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import band, mix, ridges, smooth_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob, harmonic_profile, segment_distance
from lexiseg.scans.scan import BoolArray, FloatArray

AREAS = {"small": (0.09, 0.235), "medium": (0.265, 0.335), "large": (0.365, 0.47)}
"""Fractions of the image's area."""

# Style of the midline echo: strength in dB. "Indistinct" is an early head, with little inside to be seen.
_MIDLINE = {"continuous": 26.0, "interrupted": 23.0, "faint": 12.0, "indistinct": 5.0}
MIDLINES: tuple[str, ...] = tuple(_MIDLINE)


@dataclass(frozen=True, eq=False)
class FetalHead:
    """A head painted on its surroundings: mean echo in dB, masks by phrase, and words."""

    db: FloatArray
    structures: dict[str, BoolArray]
    words: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Pose:
    """Where the head lies: its level, and its own coordinates, 1 on the skull along each axis."""

    level: FloatArray
    v: FloatArray
    u: FloatArray
    short: float
    angle: float


def paint_head(
    draw: Draw, y: FloatArray, x: FloatArray, db: FloatArray, *, depth: FloatArray, beam: FloatArray
) -> FetalHead:
    """A head on surroundings of that mean echo.

    Args:
        draw: source of chance.
        y, x: pixel positions from the image's middle, in image heights, (H, 1) and (1, W).
        db: mean echo of the surroundings, float32 (H, W).
        depth: distance from the probe's centre of curvature, float32 (H, W).
        beam: angle of the beam through each pixel to the vertical, radians, float32 (H, W).
    """
    pose = _pose(draw, y, x)
    style = draw.choice("midline", MIDLINES, (4, 4, 2, 1.3))
    early = style == "indistinct"
    thick = draw.uniform(0.03, 0.06) * (1.3 if early else 1.0)
    folds = smooth_noise(draw.rng, draw.shape, (9, 9))
    texture = ridges(smooth_noise(draw.rng, draw.shape, (22, 10)), 0.25) * band(pose.v, 0.1, 0.55)
    brain = draw.uniform(-34, -24) + 3.5 * folds + draw.uniform(2, 9) * texture
    brain = brain + draw.uniform(0, 8) * np.clip(-np.cos(pose.angle) * pose.v, 0, 1)  # reverberation
    out = db - draw.uniform(0, 20) * band(pose.level, 1.1, 0.06)
    out = mix(out, brain, soft_below(pose.level, 1 - thick, 0.04))
    out = out - draw.uniform(0, 14) * soft_below(1.0, pose.level, 0.1) * _shadow(pose.level, depth, beam)

    inside = pose.level < 1 - 2 * thick
    structures = {"fetal head": pose.level < 1, "skull": (pose.level < 1) & ~inside}
    out, middle = _paint_middle(draw, out, pose, style)
    structures |= {name: mask & inside for name, mask in middle.items()}
    if not early:
        out = _paint_ventricles(draw, out, pose, folds)
    out = _paint_skull(draw, out, pose, thick, beam=beam, faint=early)
    tilt = np.degrees(pose.angle) % 180
    lying = "obliquely"
    if min(tilt, 180 - tilt) < 15:
        lying = "horizontally"
    elif abs(tilt - 90) < 15:
        lying = "vertically"
    words = {
        "orientation": lying,
        "midline": style,
        "cavum": "seen" if "cavum septi pellucidi" in structures else "not seen",
        "skull": "faint" if early else "bright",
    }
    return FetalHead(np.asarray(out, np.float32), structures, words)


def _pose(draw: Draw, y: FloatArray, x: FloatArray) -> _Pose:
    aspect = draw.shape[1] / draw.shape[0]
    area = draw.uniform(*AREAS[draw.choice("finding_size", tuple(AREAS), (5, 4, 3))]) * aspect
    index = draw.uniform(0.7, 0.86)  # the cephalic index: width over length
    short = (area * index / np.pi) ** 0.5
    long = short / index
    angle = draw.uniform(-0.35, 0.35) if draw.chance(0.8) else draw.uniform(-1.6, 1.6)
    room_y, room_x = max(0.5 - short, 0.02), max(aspect / 2 - long, 0.02)
    centre = (0.02 + 0.8 * draw.uniform(-room_y, room_y), 0.8 * draw.uniform(-room_x, room_x))
    profile = harmonic_profile(draw.rng, 0.012, (3, 4))
    level = blob(y, x, centre=centre, axes=(short, long), angle=angle, profile=profile)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    v = np.asarray((c * dy - s * dx) / short, np.float32)
    u = np.asarray((s * dy + c * dx) / long, np.float32)
    return _Pose(level=level, v=v, u=u, short=short, angle=angle)


def _paint_middle(
    draw: Draw, db: FloatArray, pose: _Pose, style: str
) -> tuple[FloatArray, dict[str, BoolArray]]:
    """The midline echo, and the box of the cavum septi pellucidi that interrupts it in front."""
    u, v = pose.u, pose.v
    whole = 1.5 if style == "continuous" else 0.0
    broken = 0.5 + 0.5 * np.tanh(3 * smooth_noise(draw.rng, draw.shape, (5, 9)) + whole)
    bow = draw.uniform(-0.03, 0.03) * (1 - u * u)
    off = v - bow
    line = band(off, 0.0, 0.0084 / pose.short) * soft_below(np.abs(u), 0.85, 0.1)
    masks: dict[str, BoolArray] = {}
    front = draw.sign() * draw.uniform(0.4, 0.55)
    if draw.chance(0.6) and style != "indistinct":
        box = np.maximum(np.abs(u - np.float32(front)) / 0.11, np.abs(off) / 0.075)
        line = line * soft_below(1.0, box, 0.2)
        db = mix(db, -40.0, soft_below(box, 0.9, 0.2))
        walls = band(np.abs(off), 0.075, 0.02) * soft_below(np.abs(u - np.float32(front)), 0.11, 0.02)
        db = np.maximum(db, -43 + 30 * walls)
        masks["cavum septi pellucidi"] = box < 1
    echo = -36 + _MIDLINE[style] * line * (0.4 + 0.6 * broken)
    db = np.maximum(db, np.where(line * broken > 0.05, echo, -90))
    if style in ("continuous", "interrupted"):
        masks["midline"] = (np.abs(off) < 0.03) & (np.abs(u) < 0.85)
    return np.asarray(db, np.float32), masks


def _paint_ventricles(draw: Draw, db: FloatArray, pose: _Pose, folds: FloatArray) -> FloatArray:
    """Dark ventricles with a bright choroid plexus, mostly the one far from the probe, and short echoes."""
    u, v = pose.u, pose.v
    back = draw.sign()
    for side in (1.0, -1.0) if draw.chance(0.3) else (1.0 if draw.chance(0.85) else -1.0,):
        at = (side * draw.uniform(0.3, 0.42), back * draw.uniform(0.25, 0.5))
        horn = blob(v, u, centre=at, axes=(0.17, 0.34), angle=side * back * 0.25)
        db = mix(db, -42.0, soft_below(horn, 1.0, 0.5) * draw.uniform(0.3, 0.9))
        plexus = blob(v, u, centre=at, axes=(0.1, 0.2), angle=side * back * 0.25) * (1 + 0.15 * folds)
        db = mix(db, draw.uniform(-24, -11) + 2 * folds, soft_below(plexus, 1.0, 0.6))
        wall = band(horn, 1.0, 0.12) * np.clip(np.tanh(2 * folds + 0.3), 0, 1)
        db = db + draw.uniform(4, 18) * wall * soft_below(pose.level, 0.8, 0.1)
    for _ in range(int(draw.rng.integers(0, 4))):
        start = (draw.uniform(-0.6, 0.6), draw.uniform(-0.6, 0.6))
        end = (start[0] + draw.uniform(-0.05, 0.05), start[1] + draw.uniform(0.1, 0.3))
        db = db + 18 * band(segment_distance(v, u, start, end), 0.0, 0.025) * soft_below(pose.level, 0.9, 0.1)
    return np.asarray(db, np.float32)


def _paint_skull(
    draw: Draw, db: FloatArray, pose: _Pose, thick: float, *, beam: FloatArray, faint: bool
) -> FloatArray:
    """The skull's ring; it breaks at its sides.

    A smooth bone reflects away from the probe unless the beam meets it squarely.
    """
    ny, nx = np.gradient(pose.level)
    along = ny * np.cos(beam) + nx * np.sin(beam)
    cosine = np.abs(along) / np.sqrt(np.maximum(ny * ny + nx * nx, 1e-18))
    facing = np.clip(cosine, 0, 1) ** np.float32(draw.uniform(0.5, 2.5))
    peak = draw.uniform(-16, -9) if faint else draw.uniform(-7, 3)
    bone = peak - draw.uniform(10, 30) * (1 - facing) + 3 * smooth_noise(draw.rng, draw.shape, (5, 5))
    return mix(db, np.maximum(db, bone), band(pose.level, 1 - thick, thick * draw.uniform(0.7, 1.0)))


def _shadow(level: FloatArray, depth: FloatArray, beam: FloatArray) -> FloatArray:
    """1 behind the head as seen from the probe, on the beams that cross it, 0 elsewhere."""
    inside = level < 1
    if not inside.any():
        return np.zeros_like(level)
    low, high = float(beam[inside].min()), float(beam[inside].max())
    across = np.abs(beam - np.float32((low + high) / 2))
    half = max((high - low) / 2, 1e-3)
    return soft_below(across, half * 0.9, half * 0.3) * soft_below(float(depth[inside].mean()), depth, 0.05)

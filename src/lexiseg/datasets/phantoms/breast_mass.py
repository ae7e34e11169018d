"""Masses of the breast: benign tumors, cysts and malignant tumors, by the signs that tell them apart.

The words are of the BI-RADS lexicon for ultrasound: margin, echo pattern, orientation, posterior features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import (
    band,
    fractal_noise,
    mix,
    ridges,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.toolbox.shapes import (
    area_factor,
    blob,
    coordinates,
    harmonic_profile,
    spiky_profile,
)
from lexiseg.datasets.phantoms.toolbox.ultrasound import beneath
from lexiseg.scans.scan import BoolArray, FloatArray

AREAS = {"small": (0.008, 0.027), "medium": (0.034, 0.1), "large": (0.12, 0.26)}
"""Fractions of the image's area."""
MARGINS = {
    "benign tumor": ("circumscribed", "lobulated"),
    "cyst": ("circumscribed",),
    "malignant tumor": ("spiculated", "angular", "microlobulated", "indistinct"),
}
KINDS: tuple[str, ...] = tuple(MARGINS)

_ECHOES = {
    "benign tumor": ("hypoechoic", "mildly hypoechoic", "complex"),
    "cyst": ("anechoic",),
    "malignant tumor": ("hypoechoic", "heterogeneous", "markedly hypoechoic"),
}
# Mean echo relative to the surroundings, and its unevenness, in dB.
_LEVELS = {
    "mildly hypoechoic": (-7.0, 1.2),
    "complex": (-13.0, 5.0),
    "heterogeneous": (-14.0, 4.5),
    "hypoechoic": (-15.0, 1.2),
    "markedly hypoechoic": (-21.0, 1.2),
    "anechoic": (-34.0, 0.5),
}
_SOFTNESS = {"circumscribed": 0.12, "lobulated": 0.14, "indistinct": 0.5}  # of the border, as a level


@dataclass(frozen=True, eq=False)
class Mass:
    """A mass painted on a breast.

    Attributes:
        db: mean echo of the breast with the mass, float32 (H, W).
        mask: bool (H, W).
        words: its margin, echo, shape and posterior features.
    """

    db: FloatArray
    mask: BoolArray
    words: dict[str, str]


def paint_mass(draw: Draw, db: FloatArray, kind: str) -> Mass:
    """A mass of that kind on a breast of that mean echo."""
    margin = draw.choice("margin", MARGINS[kind])
    echo = draw.choice("echo", _ECHOES[kind])
    level = _outline(draw, kind, margin)
    mask = level < 1
    alpha = soft_below(level, 1.0, _SOFTNESS.get(margin, 0.28))
    around = float(db[(level < 1.8) & ~mask].mean()) if (level < 1.8).sum() > mask.sum() else -12.0
    db = mix(_rim(draw, db, level, kind), _inside(draw, around, kind, echo), alpha)
    db, posterior = _posterior(draw, db, level, alpha, kind)
    words = {"margin": margin, "echo": echo, "shape": shape_of(mask), "posterior": posterior}
    return Mass(np.asarray(db, np.float32), mask, words)


def shape_of(mask: BoolArray) -> str:
    """A word for the mask's bounding box: a malignant mass tends to be taller than wide."""
    height, width = (int(np.ptp(index)) + 1 for index in mask.nonzero())
    if height > 1.05 * width:
        return "taller than wide"
    return "wider than tall" if width > 1.05 * height else "round"


def _profile(draw: Draw, margin: str) -> FloatArray:
    if margin == "spiculated":
        return spiky_profile(draw.rng, int(draw.rng.integers(9, 18)), draw.uniform(0.3, 0.6))
    if margin == "angular":
        return spiky_profile(draw.rng, int(draw.rng.integers(4, 7)), draw.uniform(0.25, 0.45))
    if margin == "microlobulated":
        return harmonic_profile(draw.rng, 0.22, (2, 3, 5, 7, 9, 11, 13))
    return harmonic_profile(draw.rng, {"lobulated": 0.2, "circumscribed": 0.07}.get(margin, 0.14), (2, 3, 4))


def _outline(draw: Draw, kind: str, margin: str) -> FloatArray:
    """Level of a mass that covers the share of the image that its size asks for."""
    rows, columns = draw.shape
    y, x = coordinates(draw.shape)
    unit = min(rows, columns) / 2
    top, side = rows / 2 / unit, columns / 2 / unit
    malignant = kind == "malignant tumor"
    profile = _profile(draw, margin)
    slim = draw.uniform(0.75, 1.35) if malignant else draw.uniform(0.45, 0.9)  # height over width
    angle = draw.uniform(-0.5, 0.5) if malignant else draw.uniform(-0.25, 0.25)
    area = draw.uniform(*AREAS[draw.choice("finding_size", tuple(AREAS), (4, 4, 2))]) * 4 * top * side
    half = (area / (np.pi * area_factor(profile) * slim)) ** 0.5
    reach = 0.9 * half * float(profile.max())
    room_y, room_x = max(top - reach * slim, 0.02), max(side - reach, 0.02)
    upper = min(0.06 * top - room_y, 0.0)
    centre = (draw.uniform(upper, min(room_y, 0.45 * top) + 0.02), draw.uniform(-room_x, room_x))
    level = blob(y, x, centre=centre, axes=(half * slim, half), angle=angle, profile=profile)
    ragged = np.float32(0.10 if malignant else 0.02)
    return level * (1 + ragged * smooth_noise(draw.rng, draw.shape, (24, 24)))


def _rim(draw: Draw, db: FloatArray, level: FloatArray, kind: str) -> FloatArray:
    """A capsule around a benign mass, a wide bright halo around a malignant one."""
    centre, width = (1.25, 0.3) if kind == "malignant tumor" else (1.05, 0.06)
    return np.asarray(db + draw.uniform(0, 6) * band(level, centre, width), np.float32)


def _inside(draw: Draw, around: float, kind: str, echo: str) -> FloatArray:
    """Mean echo of the mass's inside, in dB, given that of its surroundings."""
    relative, rough = _LEVELS[echo]
    inside = min(around, -10.0) + relative + rough * fractal_noise(draw.rng, draw.shape, (14, 14))
    if echo == "complex":  # septa
        inside = inside + 10 * ridges(smooth_noise(draw.rng, draw.shape, (10, 8)), 0.1)
    if kind == "malignant tumor" and draw.chance(0.3):  # calcifications
        inside = inside + 22 * (smooth_noise(draw.rng, draw.shape, (60, 60)) > 2.3)
    return np.asarray(np.maximum(inside, -52.0), np.float32)


def _posterior(
    draw: Draw, db: FloatArray, level: FloatArray, alpha: FloatArray, kind: str
) -> tuple[FloatArray, str]:
    """What lies behind the mass: brighter behind fluid, darker behind what absorbs; and a word for it."""
    # A beam through the middle crosses more of the mass than one that grazes it.
    path = beneath(np.sqrt(np.clip(1 - level, 0, 1)), blur=0.018 * draw.shape[1])
    path = path * (1 + 0.25 * smooth_noise(draw.rng, draw.shape, (3, 14)))
    behind = np.tanh(np.clip(path, 0, None) * np.float32(draw.uniform(8, 16)))
    if kind == "cyst" or (kind == "benign tumor" and draw.chance(0.6)):
        gain = draw.uniform(6, 13) if kind == "cyst" else draw.uniform(2, 8)
        # A round border bends grazing beams away: two narrow shadows at its sides.
        grazing = beneath(band(level, 1.0, 0.08), blur=0.006 * draw.shape[1]) * (level > 1)
        return db + gain * behind * (1 - alpha) - 14 * grazing * (1 - behind), "enhancement"
    if kind == "malignant tumor" and draw.chance(0.8):
        return db - draw.uniform(7, 18) * behind, "shadow"
    return db, "none"

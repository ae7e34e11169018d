"""Chest X-ray, posterior-anterior: what the beam meets on its way, seen as a negative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.imaging import expose
from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.shapes import (
    band,
    blob,
    coordinates,
    fractal_noise,
    harmonic_profile,
    mix,
    ridges,
    segment_distance,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.words import a, place_of, sentence, size_of, where, write_text
from lexiseg.values.arrays import BoolArray, FloatArray


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


FINDINGS = ("lung nodule", "lung opacity")
AREAS = {"small": (0.0009, 0.0028), "medium": (0.0034, 0.011), "large": (0.013, 0.028)}
"""Fractions of the image's area."""


def draw_finding(draw: Draw, chest: Thorax, kind: str) -> tuple[FloatArray, BoolArray]:
    """Extra thickness of tissue in one lung, float32 (H, W), and its mask, never empty."""
    nodule = kind == "lung nodule"
    lung = chest.fields & (chest.x * draw.sign() > 0)
    y, x = coordinates(draw.shape)
    area = draw.uniform(*AREAS[draw.choice("finding_size", tuple(AREAS), (4, 4, 2))])
    radius = max((area * x.size / np.pi) ** 0.5, 1.5) / (min(draw.shape) / 2)
    deep = (lung & (chest.lung > 0.25)).ravel().nonzero()[0]
    at = int(deep[int(draw.uniform(0, 1) * len(deep))]) if len(deep) else int(np.argmax(lung * chest.lung))
    stretch = draw.uniform(0.85, 1.15) if nodule else draw.uniform(0.7, 1.4)
    level = blob(
        y,
        x,
        centre=(float(y.ravel()[at]), float(x.ravel()[at])),
        axes=(radius * stretch, radius / stretch),
        profile=harmonic_profile(draw.rng, 0.08 if nodule else 0.25),
    )
    if nodule:
        body = draw.uniform(0.15, 0.35) * np.sqrt(np.clip(1 - 0.75 * level**2, 0, 1))
        body = body * soft_below(level, 1.0, 0.4)
    else:
        level = level * (1 + 0.18 * smooth_noise(draw.rng, draw.shape, (18, 18)))
        body = draw.uniform(0.12, 0.3) * (0.8 + 0.3 * smooth_noise(draw.rng, draw.shape, (40, 40)))
        body = body * soft_below(level, 1.0, 0.5)
    mask = (level < 1) & lung
    mask.ravel()[at] = True
    return np.asarray(body * soft_below(-chest.lung, 0.0, 0.1), np.float32), mask


SMALL, LARGE = 0.22, 0.28
"""Fractions of the image's area below which the lungs are small, and from which they are large."""
FINDING_SMALL, FINDING_LARGE = 0.003, 0.012
"""The same for a nodule or an opacity."""

_TEXTURES = {
    "lung nodule": ("round", "well-defined", "solid"),
    "lung opacity": ("patchy", "hazy", "ill-defined"),
}
_HEADS = (
    "frontal chest X-ray",
    "PA chest X-ray",
    "chest radiograph",
    "frontal chest radiograph",
    "chest X-ray",
)
_NORMAL = ("with no nodule", "without opacities", "with no sign of disease", "with no focal lesion")


def build(draw: Draw) -> Rendering:
    """One chest X-ray; "left" and "right" lung are the patient's.

    The patient faces the viewer: the "left lung" and most of the "heart" are on the image's right. A nodule
    is a "lung opacity" too.
    """
    chest = draw_thorax(draw)
    ribs, rib_mask = draw_ribs(draw, chest)
    soft = draw_body(draw, chest)
    bone = draw_shoulders(draw, chest) + 0.55 * ribs + draw_spine(draw, chest) * (soft > 0.1)
    tissue = _tissue(draw, chest, soft)
    structures: dict[str, BoolArray] = {
        "lungs": chest.fields,
        "left lung": chest.fields & (chest.x > 0),
        "right lung": chest.fields & (chest.x <= 0),
        "heart": (chest.heart < 1) & (chest.y < chest.dome + 0.05),
        "ribs": rib_mask,
        "mediastinum": (chest.mediastinum < 0) & (chest.y > 0) & (chest.y < chest.dome) & (chest.heart >= 1),
        "diaphragm": (np.abs(chest.y - chest.dome) < 0.02) & (np.abs(chest.x) < chest.wall),
    }
    words = {
        "finding": "none",
        "lungs": size_of(chest.fields, small=SMALL, large=LARGE),
        "heart": "enlarged" if _width(structures["heart"]) > 0.52 * _width(chest.fields) else "normal-sized",
    }
    if draw.present:
        kind = draw.choice("kind", FINDINGS, (3, 2))
        extra, mask = draw_finding(draw, chest, kind)
        tissue += extra
        structures |= {"lung opacity": mask, kind: mask}
        words |= {
            "finding": kind,
            "side": "left" if (mask & structures["left lung"]).any() else "right",
            "place": place_of(mask),
            "size": size_of(mask, small=FINDING_SMALL, large=FINDING_LARGE),
            "texture": draw.pick(_TEXTURES[kind]),
        }
    pixels = _label(draw, expose(draw, np.clip(tissue, 0, 3), bone))
    return Rendering(pixels, structures, words, _caption(draw, words))


def _tissue(draw: Draw, chest: Thorax, soft: FloatArray) -> FloatArray:
    """Thickness of soft tissue: the body without the air in lungs, windpipe and stomach."""
    x, y = chest.x, chest.y
    heart = np.clip(2 * np.sqrt(np.clip(1 - chest.heart, 0, 1)), 0, 1) * soft_below(y, 1.05, 0.1)
    air = np.sqrt(np.clip(chest.lung, 0, 1)) * draw.uniform(0.62, 0.78)
    tissue = soft - air * (1 - draw.uniform(0.75, 0.95) * heart)
    tissue += draw_vessels(draw, chest) * soft_below(-chest.lung, 0, 0.3)
    tissue += 0.06 * fractal_noise(draw.rng, draw.shape, (5, 5)) * soft
    belly = soft_below(chest.dome, y, 0.03)
    tissue += draw.uniform(0.05, 0.3) * belly * soft
    windpipe = soft_below(np.abs(chest.spine), 0.045, 0.03) * soft_below(y, 0.36, 0.08)
    tissue -= draw.uniform(0.1, 0.22) * windpipe * (soft > 0.2)
    if draw.chance(0.6):
        centre = (draw.uniform(1.0, 1.12), draw.uniform(0.4, 0.6))
        stomach = blob(y, x, centre=centre, axes=(0.07, draw.uniform(0.12, 0.25)))
        tissue -= draw.uniform(0.1, 0.35) * soft_below(stomach, 1.0, 0.3) * belly
    if draw.chance(0.4):
        centre = (draw.uniform(0.72, 0.85), 0.6)
        breasts = blob(y, np.abs(x), centre=centre, axes=(0.3, 0.45))
        tissue += draw.uniform(0.05, 0.16) * soft_below(breasts, 1.0, 0.15)
    return np.asarray(tissue, np.float32)


def _width(mask: BoolArray) -> int:
    """Columns from the first to the last that the mask touches; at least 1."""
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[-1] - columns[0]) + 1 if len(columns) else 1


def _label(draw: Draw, pixels: FloatArray) -> FloatArray:
    """The side marker and lettering of the film."""
    if draw.chance(0.6):
        left = draw.chance(0.5)
        at = (draw.uniform(0.02, 0.14), draw.uniform(0.85, 0.93) if left else draw.uniform(0.03, 0.12))
        pixels = write_text(pixels, "L" if left else "R", at=at, height=draw.uniform(0.04, 0.06), value=0.95)
    if draw.chance(0.2):
        pixels = write_text(pixels, "PA ERECT", at=(0.03, draw.uniform(0.6, 0.75)), height=0.035, value=1.0)
    return pixels


def _caption(draw: Draw, words: dict[str, str]) -> str:
    head = draw.pick(_HEADS)
    rest = draw.pick((f"{words['lungs']} lung fields", f"{words['lungs']} lung fields on the left and right"))
    rest += draw.pick(("", f" and {a(words['heart'])} heart", f" and {a(words['heart'])} cardiac silhouette"))
    if words["finding"] == "none":
        normal = draw.pick(("normal", "clear", "healthy"))
        return sentence(f"{head} of {normal} lungs {draw.pick(_NORMAL)}, {rest}")
    side = f"in the {words['side']} lung"
    spot = draw.pick((side, f"{side}, {where(words['place'])} of the image"))
    name = draw.pick((words["finding"], words["finding"].removeprefix("lung ")))
    return sentence(f"{head} showing {a(words['size'])} {words['texture']} {name} {spot}, {rest}")


CHEST = Modality(
    name="chest-xray",
    build=build,
    phrase="lungs",
    options={"kind": FINDINGS, "finding_size": tuple(AREAS)},
    findings=FINDINGS,
    exclusive=("lungs", "left lung", "right lung", "heart", *FINDINGS),
    present=0.6,
)

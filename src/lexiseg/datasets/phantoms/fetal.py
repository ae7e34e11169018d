"""Fetal ultrasound: a head in the fan of a curved probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.imaging import Sector, amplitude, log_compress
from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.shapes import (
    band,
    blob,
    harmonic_profile,
    mix,
    ridges,
    segment_distance,
    smooth_curve,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.words import a, place_of, sentence, size_of, where
from lexiseg.values.arrays import BoolArray, FloatArray

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


def _paint_middle(draw: Draw, db: FloatArray, pose: _Pose, style: str) -> tuple[FloatArray, dict[str, BoolArray]]:
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


def _paint_skull(draw: Draw, db: FloatArray, pose: _Pose, thick: float, *, beam: FloatArray, faint: bool) -> FloatArray:
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


SMALL, LARGE = 0.25, 0.35
"""Fractions of the image's area below which a head is small, and from which it is large."""

_PLACENTAS = ("anterior", "posterior", "none")
_HEADS = ("ultrasound", "fetal ultrasound", "obstetric ultrasound", "prenatal ultrasound", "sonogram")
_WITHOUT = ("without a fetal head", "and no fetal head", "with no head in view")


def build(draw: Draw) -> Rendering:
    """One fetal ultrasound.

    "fetal head" is filled and includes the skull; it is whole even where the fan cuts it off, as in biometry.
    All other structures end where the fan ends.
    """
    rows, columns = draw.shape
    sector = _sector(draw)
    depth, angle = sector.polar(draw.shape)
    y = np.asarray((np.arange(rows) + 0.5) / rows - 0.5, np.float32)[:, None]
    x = np.asarray((np.arange(columns) + 0.5 - columns / 2) / rows, np.float32)[None, :]
    fraction = (depth - np.float32(sector.near)) / np.float32(sector.far - sector.near)
    db, structures = _surroundings(draw, fraction, angle / np.float32(sector.half_angle))
    words = {"finding": "none"}
    if draw.present:
        head = paint_head(draw, y, x, db, depth=depth, beam=angle)
        db = head.db
        whole = head.structures["fetal head"]
        structures = {name: mask & ~whole for name, mask in structures.items()} | head.structures
        words |= {"finding": "fetal head", **head.words}
        words |= {"size": size_of(whole, small=SMALL, large=LARGE), "place": place_of(whole)}
    else:
        db, hidden, words["other"] = _distract(draw, y, x, db)
        structures = {name: mask & ~hidden for name, mask in structures.items()}

    pixels, seen = _develop(draw, sector, db, depth, angle)
    structures = {name: mask if name == "fetal head" else mask & seen for name, mask in structures.items()}
    structures = {name: mask for name, mask in structures.items() if mask.any()}
    words["placenta"] = "none"
    if "placenta" in structures:
        words["placenta"] = "anterior" if fraction[structures["placenta"]].mean() < 0.5 else "posterior"
    return Rendering(pixels, structures, words, _caption(draw, words))


def _sector(draw: Draw) -> Sector:
    """A fan that fills the image, or one that the image cuts off."""
    aspect = draw.shape[1] / draw.shape[0]
    near = draw.uniform(0.25, 0.7)
    top = draw.uniform(-0.15, 0.06) if draw.chance(0.75) else draw.uniform(-0.5, -0.2)
    far = near + (1 - top) * draw.uniform(0.96, 1.15)
    half = float(np.arctan2(aspect / 2, near + 0.55)) * draw.uniform(0.85, 1.3)
    apex = (top - near, aspect * (0.5 + draw.uniform(-0.04, 0.04)))
    return Sector(apex=apex, near=near, far=far, half_angle=min(half, 1.25))


def _surroundings(draw: Draw, depth: FloatArray, across: FloatArray) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Mean echo in dB of uterus, placenta and fluid, and masks; depth from 0 to 1 and across from -1 to 1."""
    lobes = smooth_noise(draw.rng, draw.shape, (4, 4))
    layers = smooth_noise(draw.rng, draw.shape, (draw.uniform(14, 30), draw.uniform(4, 8)))
    streaks = ridges(layers + 0.4 * lobes, 0.3)
    db = draw.uniform(-28, -16) + 4 * lobes + draw.uniform(4, 12) * (streaks - 0.3)
    wall = draw.uniform(0.02, 0.12) + 0.02 * lobes
    db = mix(db, -12 + 8 * streaks, soft_below(depth, wall, 0.03))
    pool = smooth_noise(draw.rng, draw.shape, (3, 3))
    fluid = soft_below(pool, draw.uniform(-1.6, 0.3), 0.4) * (depth > wall)
    db = mix(db, draw.uniform(-50, -36), fluid)
    masks = {"amniotic fluid": fluid > 0.5}
    place = draw.choice("placenta", _PLACENTAS, (4, 2, 4))
    lean = draw.uniform(-0.25, 0.25) * across + 0.03 * lobes
    if place != "none":
        if place == "anterior":
            inside = soft_below(depth, draw.uniform(0.15, 0.4) + lean, 0.05) * (depth > wall)
        else:
            inside = soft_below(draw.uniform(0.75, 0.9) + lean, depth, 0.05)
        db = mix(db, -12 + 1.5 * lobes, inside)
        masks["placenta"] = inside > 0.5
        masks["amniotic fluid"] &= ~masks["placenta"]
    return db, masks


def _distract(draw: Draw, y: FloatArray, x: FloatArray, db: FloatArray) -> tuple[FloatArray, BoolArray, str]:
    """What else a fan without a head may show: the echo with it, what it covers, and a word for it."""
    kind = draw.pick(("abdomen", "limb", "nothing"))
    folds = smooth_noise(draw.rng, draw.shape, (9, 9))
    centre = (draw.uniform(-0.15, 0.2), draw.uniform(-0.3, 0.3))
    if kind == "abdomen":
        r = draw.uniform(0.2, 0.33)
        belly = blob(y, x, centre=centre, axes=(r, 1.1 * r), profile=harmonic_profile(draw.rng, 0.06))
        stomach = blob(y, x, centre=(centre[0], centre[1] - 0.4 * r), axes=(0.2 * r, 0.3 * r))
        db = mix(db, -20 + 4 * folds, soft_below(belly, 1.0, 0.12))
        return mix(db, -45.0, soft_below(stomach, 1.0, 0.2)), belly < 1, kind
    if kind == "limb":
        end = (centre[0] + draw.uniform(-0.15, 0.15), centre[1] + draw.sign() * draw.uniform(0.2, 0.35))
        away = segment_distance(y, x, centre, end)
        db = mix(db, -22 + 3 * folds, soft_below(away, 0.09, 0.04))
        return np.maximum(db, -44 + 40 * band(away, 0.0, 0.016)), away < 0.09, kind
    return db, np.zeros(draw.shape, np.bool_), kind


def _develop(
    draw: Draw, sector: Sector, db: FloatArray, depth: FloatArray, angle: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Brightness, float32 (H, W) in [0, 1], and where the fan is to be seen."""
    rows, columns = draw.shape
    fraction = (depth - np.float32(sector.near)) / np.float32(sector.far - sector.near)
    db = db - draw.uniform(0, 14) * np.maximum(fraction - np.float32(0.4), 0) + draw.uniform(-3, 3)
    contact = np.minimum(smooth_curve(draw.rng, 128, draw.uniform(5, 12)) + np.float32(1.2), 0)
    beam = np.clip((angle / np.float32(2 * sector.half_angle) + np.float32(0.5)) * 127, 0, 127)
    db = db + contact[beam.astype(np.intp)] * np.float32(draw.uniform(1, 7))
    lines = (round(rows * draw.uniform(0.9, 1.2)), round(rows * draw.uniform(0.8, 1.1)))
    psf = (max(0.5, draw.uniform(0.003, 0.005) * lines[0]), max(0.8, draw.uniform(0.008, 0.016) * lines[1]))
    looks = int(draw.rng.integers(2, 6))
    echo = sector.scatter(draw.rng, depth, angle, lines=lines, psf=psf, looks=looks)
    echo *= amplitude(np.asarray(db, np.float32))
    pixels = log_compress(echo, dynamic_range=draw.uniform(40, 55)) ** np.float32(draw.uniform(1.1, 1.8))
    fan = soft_below(np.abs(angle), sector.half_angle, 0.01) * soft_below(np.abs(fraction - 0.5), 0.5, 0.006)
    if draw.chance(0.4):  # consoles and anonymisers black out corners
        height, width = draw.uniform(0.1, 0.22), draw.uniform(0.12, 0.25)
        fan[round((1 - height) * rows) :, round((1 - width) * columns) :] = 0
    return np.asarray(pixels * fan, np.float32), fan > 0.5


def _caption(draw: Draw, words: dict[str, str]) -> str:
    head = draw.pick(_HEADS)
    if words["finding"] == "none":
        tissue = "placenta and tissue" if words["placenta"] != "none" else "tissue of the uterus"
        return sentence(f"{head} showing {draw.pick((tissue, 'soft tissue'))} {draw.pick(_WITHOUT)}")
    extras = [
        "",
        f"lying {words['orientation']}",
        f"with {a(words['midline'])} midline echo",
        f"with {a(words['skull'])} skull echo",
    ]
    if words["placenta"] != "none":
        extras.append(f"with {a(words['placenta'])} placenta")
    if words["cavum"] == "seen":
        extras.append("with a visible cavum septi pellucidi")
    tail = " and ".join(dict.fromkeys(e for e in (draw.pick(extras), draw.pick(extras)) if e))
    body = f"{a(words['size'])} fetal head {where(words['place'])}"
    return sentence(f"{head} showing {body}{', ' + tail if tail else ''}")


FETAL = Modality(
    name="fetal-ultrasound",
    build=build,
    phrase="fetal head",
    options={"finding_size": tuple(AREAS), "placenta": _PLACENTAS, "midline": MIDLINES},
    findings=("fetal head",),
    exclusive=("fetal head",),
    shows=frozenset({"brain", "skull", "ventricles"}),
    present=0.9,
)

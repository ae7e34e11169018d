"""Fetal ultrasound: a head in the fan of a curved probe."""

from __future__ import annotations

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.fetal_head import AREAS, MIDLINES, paint_head
from lexiseg.datasets.phantoms.modality import Modality, Rendering
from lexiseg.datasets.phantoms.toolbox.fields import (
    band,
    mix,
    ridges,
    smooth_curve,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.toolbox.shapes import blob, harmonic_profile, segment_distance
from lexiseg.datasets.phantoms.toolbox.ultrasound import Sector, amplitude, log_compress
from lexiseg.datasets.phantoms.toolbox.words import a, place_of, sentence, size_of, where
from lexiseg.scans.scan import BoolArray, FloatArray

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


def _surroundings(
    draw: Draw, depth: FloatArray, across: FloatArray
) -> tuple[FloatArray, dict[str, BoolArray]]:
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

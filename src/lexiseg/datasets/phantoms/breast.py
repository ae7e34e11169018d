"""Breast ultrasound: layers under the probe, and a mass among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.imaging import beneath, envelope, log_compress
from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.shapes import (
    area_factor,
    band,
    blob,
    coordinates,
    fractal_noise,
    harmonic_profile,
    mix,
    ridges,
    smooth_curve,
    smooth_noise,
    soft_below,
    spiky_profile,
)
from lexiseg.datasets.phantoms.words import a, place_of, sentence, size_of, where, write_callipers, write_text
from lexiseg.values.arrays import BoolArray, FloatArray


def row_depth(rows: int) -> FloatArray:
    """Depth of the rows' middles, 0 at the probe, 1 at the bottom: float32 (rows, 1)."""
    return np.asarray((np.arange(rows) + 0.5) / rows, np.float32)[:, None]


def draw_layers(draw: Draw) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Mean echo in dB, float32 (H, W), and the masks of the layers from the skin to the chest wall."""
    rows, columns = draw.shape
    depth = row_depth(rows)
    tilt = np.linspace(-1, 1, columns, dtype=np.float32) * draw.uniform(-0.07, 0.07)

    def border(at: float, wobble: float, cells: float) -> FloatArray:
        return np.asarray(at + tilt + wobble * smooth_curve(draw.rng, columns, cells), np.float32)

    skin = draw.uniform(0.015, 0.06) + 0.003 * smooth_curve(draw.rng, columns, 4)
    gland = np.maximum(border(draw.uniform(0.12, 0.42), 0.04, 5), skin + 0.03)
    muscle = np.maximum(border(draw.uniform(0.55, 0.95), 0.03, 4), gland + 0.1)
    wall = np.maximum(border(draw.uniform(0.85, 1.25), 0.02, 3), muscle + 0.08)

    lobes = smooth_noise(draw.rng, draw.shape, (6, 4))
    warp = np.float32(0.6) * smooth_noise(draw.rng, draw.shape, (4, 3))
    septa = smooth_noise(draw.rng, draw.shape, (draw.uniform(9, 17), draw.uniform(2.5, 6))) + warp
    fine = smooth_noise(draw.rng, draw.shape, (draw.uniform(26, 44), draw.uniform(6, 12))) + warp
    finer = smooth_noise(draw.rng, draw.shape, (draw.uniform(55, 80), draw.uniform(14, 24)))
    strands = smooth_noise(draw.rng, draw.shape, (draw.uniform(24, 40), 2.5)) + warp
    # Fibres: thin bright lines of two scales, brighter where they happen to lie together.
    fibres = ridges(fine, 0.3) * np.clip(0.55 + 0.45 * finer, 0, 2) + 0.35 * ridges(finer, 0.4)

    fat = draw.uniform(-23, -17) + 1.5 * lobes + draw.uniform(7, 13) * ridges(septa, 0.16) * (0.3 + fibres)
    fat += draw.uniform(0, 5) * fibres
    glandular = draw.uniform(-16, -11) + 2.5 * lobes + draw.uniform(6, 11) * fibres
    glandular -= draw.uniform(0, 7) * soft_below(lobes, -0.7, 0.6)
    muscular = draw.uniform(-25, -16) + draw.uniform(5, 11) * ridges(strands, 0.3) * (0.4 + fibres) + 2 * lobes

    db = mix(-9 + 4 * finer, fat, soft_below(skin, depth, 0.008))
    db = mix(db, glandular, soft_below(gland + 0.02 * lobes, depth, 0.05))
    db = mix(db, muscular, soft_below(muscle + 0.01 * fine, depth, 0.05))
    db = mix(db, -30 + 3 * lobes, soft_below(wall, depth, 0.02))
    fascia = np.clip(0.3 + 0.7 * fibres + 0.4 * lobes, 0, 1.5)
    db += draw.uniform(3, 11) * band(depth, muscle, 0.008) * fascia
    db += draw.uniform(3, 8) * band(depth, skin, 0.006)
    masks = {
        "skin": depth < skin,
        "fat": (depth >= skin) & (depth < gland),
        "fibroglandular tissue": (depth >= gland) & (depth < muscle),
        "pectoral muscle": (depth >= muscle) & (depth < wall),
    }
    return db, {name: mask for name, mask in masks.items() if mask.any()}


def attenuate(draw: Draw, db: FloatArray) -> FloatArray:
    """Echo in dB after attenuation, time gain, the focus and poor contact of some of the probe's elements."""
    rows, columns = draw.shape
    depth = row_depth(rows)
    focus, loss = draw.uniform(0.2, 0.6), draw.uniform(2, 16)
    db = db - np.float32(loss / (1 - focus)) * np.maximum(depth - np.float32(focus), 0)
    db = db + draw.uniform(0, 5) * band(depth, focus, 0.25)
    contact = np.minimum(smooth_curve(draw.rng, columns, draw.uniform(3, 9)) + np.float32(1.6), 0)
    db = db + np.float32(draw.uniform(2, 9)) * contact * (0.4 + depth)
    edge = np.linspace(-1, 1, columns, dtype=np.float32) ** 4
    return np.asarray(db - np.float32(draw.uniform(0, 8)) * edge * depth, np.float32)


def develop(draw: Draw, db: FloatArray) -> FloatArray:
    """Brightness, float32 (H, W) in [0, 1]: speckle, compression, a display curve, ringing at the probe."""
    rows = draw.shape[0]
    psf = (max(0.5, draw.uniform(0.002, 0.004) * rows), max(0.8, draw.uniform(0.006, 0.012) * rows))
    echo = envelope(draw.rng, db, psf=psf, looks=int(draw.rng.integers(2, 6)))
    echo *= np.float32(10 ** (draw.uniform(-9, 3) / 20))
    pixels = log_compress(echo, dynamic_range=draw.uniform(42, 58)) ** np.float32(draw.uniform(1.1, 2.0))
    ringing = draw.uniform(0.3, 0.8) * band(row_depth(rows), 0.0, draw.uniform(0.004, 0.015))
    return np.asarray(np.clip(np.maximum(pixels, ringing), 0, 1), np.float32)


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


def _posterior(draw: Draw, db: FloatArray, level: FloatArray, alpha: FloatArray, kind: str) -> tuple[FloatArray, str]:
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


SMALL, LARGE = 0.03, 0.11
"""Fractions of the image's area below which a tumor is small, and from which it is large."""

_LABELS = ("RT AXILLA", "LT AXILLA", "LT 5", "RT8", "RT 10", "LT 2", "RIGHT BREAST", "LEFT BREAST", "RT UOQ")
_HEADS = ("breast ultrasound", "ultrasound of the breast", "B-mode breast ultrasound", "breast sonogram")
_TISSUE = ("fat and fibroglandular tissue", "normal breast tissue", "regular layers of fat and gland")
_NORMAL = ("with no tumor", "without a tumor", "and no focal lesion", "with no suspicious finding")
_BEHIND = {"shadow": "with posterior shadowing", "enhancement": "with posterior enhancement"}


def build(draw: Draw) -> Rendering:
    """One breast ultrasound; the structures are the layers and, where there is one, the mass.

    A mass is a "breast tumor", and a "benign tumor" or a "malignant tumor"; a "cyst" counts as benign.
    """
    db, structures = draw_layers(draw)
    words = {"finding": "none"}
    if draw.present:
        kind = draw.choice("kind", KINDS, (5, 2, 5))
        mass = paint_mass(draw, db, kind)
        db = mass.db
        structures = {name: mask & ~mass.mask for name, mask in structures.items()}
        for name in (
            "breast tumor",
            "malignant tumor" if kind == "malignant tumor" else "benign tumor",
            kind,
        ):
            structures[name] = mass.mask
        words |= {
            "finding": kind,
            "size": size_of(mass.mask, small=SMALL, large=LARGE),
            "place": place_of(mass.mask),
            **mass.words,
        }
    pixels = develop(draw, attenuate(draw, db))
    if draw.present and draw.chance(0.15):
        pixels = write_callipers(pixels, structures["breast tumor"])
    if draw.chance(0.25):
        at = (draw.uniform(0.05, 0.9), draw.uniform(0.03, 0.6))
        pixels = write_text(pixels, draw.pick(_LABELS), at=at, height=0.04, value=0.85)
    return Rendering(pixels, structures, words, _caption(draw, words))


def _caption(draw: Draw, words: dict[str, str]) -> str:
    head = draw.pick(_HEADS)
    if words["finding"] == "none":
        return sentence(f"{head} showing {draw.pick(_TISSUE)} {draw.pick(_NORMAL)}")
    adjective = draw.pick(("", words["echo"], words["margin"]))
    signs = [f"with {a(words['margin'])} margin", f"{words['shape']}, with {a(words['margin'])} margin"]
    if adjective != words["echo"]:
        signs.append(f"{words['echo']} and {words['shape']}")
    if words["posterior"] in _BEHIND:
        signs.append(_BEHIND[words["posterior"]])
    if adjective == words["margin"]:
        signs = [words["shape"], *signs[2:]]
    sign = draw.pick(("", *signs))
    what = f"{a(words['size'])} {adjective} {words['finding']} {where(words['place'])}"
    return sentence(f"{head} showing {what}{', ' + sign if sign else ''}")


BREAST = Modality(
    name="breast-ultrasound",
    build=build,
    phrase="breast tumor",
    options={"kind": KINDS, "finding_size": tuple(AREAS)},
    findings=("breast tumor", "benign tumor", "malignant tumor", "cyst"),
    exclusive=("breast tumor",),
)

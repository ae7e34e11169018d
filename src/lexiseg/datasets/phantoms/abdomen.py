"""Abdominal CT: a body with its organs at any level between lungs and pelvis, in Hounsfield units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.shapes import blob, coordinates, fractal_noise, harmonic_profile, mix, soft_below
from lexiseg.datasets.phantoms.words import place_of, sentence, size_of
from lexiseg.values.arrays import BoolArray, FloatArray

PHASES = ("portal venous", "unenhanced")
LEVELS = ("upper", "lower")

SMALL, LARGE = 0.03, 0.09
"""Fractions of the image's area below which a liver's section is small, and from which it is large."""

_HU: Mapping[str, Mapping[str, float]] = {
    "portal venous": {"liver": 108, "spleen": 118, "kidneys": 172, "aorta": 155, "vena cava": 135, "wall": 62},
    "unenhanced": {"liver": 58, "spleen": 48, "kidneys": 32, "aorta": 40, "vena cava": 38, "wall": 52},
}
"""Mean attenuation, rounded from what textbooks give for adults."""

_FAT, _FLUID, _BONE, _AIR = -95.0, 14.0, 330.0, -850.0
_WINDOW = (40.0, 400.0)
"""Level and width of the soft-tissue window through which a single slice is shown."""


@dataclass(frozen=True)
class _Solid:
    """An organ as an ellipsoid in the body's own coordinates, in which the body's outline is 1.

    Attributes:
        name: its phrase.
        centre: (y, x) where it is widest; the patient's right is at negative x.
        axes: half axes there.
        level: where it is widest, -1 (pelvis) to 1 (lungs).
        reach: half its extent along the level.
        angle: turns the section.
    """

    name: str
    centre: tuple[float, float]
    axes: tuple[float, float]
    level: float
    reach: float
    angle: float = 0.0


_SOLIDS = (
    _Solid("liver", (-0.05, -0.46), (0.58, 0.44), 0.45, 0.72, -0.25),
    _Solid("liver", (-0.42, -0.02), (0.24, 0.42), 0.55, 0.42, 0.1),
    _Solid("spleen", (0.3, 0.68), (0.34, 0.2), 0.5, 0.42, 0.45),
    _Solid("right kidney", (0.42, -0.44), (0.24, 0.17), -0.2, 0.42, 0.35),
    _Solid("left kidney", (0.42, 0.44), (0.24, 0.17), -0.08, 0.42, -0.35),
    _Solid("stomach", (-0.36, 0.42), (0.3, 0.3), 0.52, 0.4, 0.3),
    _Solid("aorta", (0.22, 0.07), (0.075, 0.06), 0.0, 9.0),
    _Solid("vena cava", (0.2, -0.13), (0.07, 0.075), 0.0, 9.0),
)


@dataclass(frozen=True, eq=False)
class _Body:
    """A section through a body.

    Attributes:
        v, u: (down, right) positions of pixels; the body ends at 1.
        outline: level set of the skin, 1 on it.
        rim: where the wall of muscle lies on `outline`.
        level: of the section.
    """

    v: FloatArray
    u: FloatArray
    outline: FloatArray
    rim: float
    level: float

    @property
    def cavity(self) -> BoolArray:
        """Inside of the wall, bool."""
        return self.outline < self.rim - 0.04


def build(draw: Draw) -> Rendering:
    """One axial slice through the soft-tissue window, anterior at the top, the patient's right on the image's left.

    With its target it lies between the kidneys and the lungs, without below the liver.
    """
    level = draw.choice("level", LEVELS)
    heights = {"upper": draw.uniform(0.2, 0.65), "lower": draw.uniform(-0.15, 0.05), "none": draw.uniform(-0.95, -0.55)}
    height = heights[level if draw.present else "none"]
    section = at_level(draw, height)
    shown = (section.pixels - (_WINDOW[0] - _WINDOW[1] / 2)) / _WINDOW[1]
    words = {**section.attributes, "level": level}
    return Rendering(np.clip(shown, 0, 1).astype(np.float32), section.structures, words, _caption(draw, words))


def at_level(draw: Draw, level: float) -> Rendering:
    """The same patient's slice at a level, in Hounsfield units.

    Args:
        draw: a new one of the same seed for each level, so that the patient stays the same.
        level: -1 (pelvis) to 1 (lungs).

    Returns:
        Its pixels are HU; "kidneys" are both kidneys.
    """
    phase = draw.choice("phase", PHASES, (3, 1))
    hu = {name: value + draw.uniform(-9, 9) for name, value in _HU[phase].items()}
    y, x = coordinates(draw.shape, angle=draw.uniform(-0.05, 0.05))
    half = (draw.uniform(0.56, 0.66), draw.uniform(0.78, 0.9))
    outline = blob(y, x, centre=(0.0, 0.0), axes=half, profile=harmonic_profile(draw.rng, 0.012, (2, 4)))
    v, u = np.asarray(y / half[0], np.float32), np.asarray(x / half[1], np.float32)
    body = _Body(v, u, outline, draw.uniform(0.8, 0.9), level)

    value = np.full(draw.shape, _AIR - 120, np.float32)
    value = mix(value, _FAT, soft_below(outline, 1.0, 0.03))
    value = mix(value, hu["wall"], soft_below(outline, body.rim, 0.03))
    value = mix(value, _FAT, soft_below(outline, body.rim - 0.08, 0.04))
    organs = _sections(draw, body)
    value, structures = _paint(draw, value, body, organs, hu)
    value, structures = _lungs(value, structures, body)
    value = _bones(draw, value, body)
    structures = {name: mask & (value < 0.6 * _BONE) for name, mask in structures.items()}
    value = gaussian_filter(value, max(0.4, 0.003 * min(draw.shape)))
    # Each slice has noise of its own, though the patient is drawn anew with the same chance.
    grain = np.random.default_rng([int(draw.rng.integers(2**32)), round(1e5 * (level + 2))])
    value += draw.uniform(6, 16) * grain.standard_normal(draw.shape, dtype=np.float32)

    kidneys = [structures[name] for name in ("left kidney", "right kidney") if name in structures]
    if kidneys:
        structures["kidneys"] = np.logical_or.reduce(kidneys)
    structures = {name: mask for name, mask in structures.items() if mask.any()}
    words = {"finding": "none", "phase": phase}
    if "liver" in structures:
        words |= {"finding": "liver", "place": place_of(structures["liver"])}
        words["size"] = size_of(structures["liver"], small=SMALL, large=LARGE)
    return Rendering(np.asarray(value, np.float32), structures, words, "")


def _sections(draw: Draw, body: _Body) -> dict[str, FloatArray]:
    """Level sets of the organs at a level: 1 on their outline; what does not reach it is left out.

    Every organ draws its chance whether it is seen or not, so that all levels are of one patient.
    """
    found: dict[str, FloatArray] = {}
    for solid in _SOLIDS:
        profile = harmonic_profile(draw.rng, 0.06)
        shift = draw.rng.normal(0, 0.02, 2)
        away = (body.level - solid.level + draw.uniform(-0.05, 0.05)) / solid.reach
        if abs(away) >= 0.98:
            continue
        shrink = float(np.sqrt(1 - away**2)) if solid.reach < 1 else 1.0
        centre = (solid.centre[0] + float(shift[0]), solid.centre[1] + float(shift[1]))
        axes = (solid.axes[0] * shrink, solid.axes[1] * shrink)
        section = blob(body.v, body.u, centre=centre, axes=axes, angle=solid.angle, profile=profile)
        found[solid.name] = np.minimum(found[solid.name], section) if solid.name in found else section
    return found


def _paint(
    draw: Draw, value: FloatArray, body: _Body, organs: Mapping[str, FloatArray], hu: Mapping[str, float]
) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Organs inside the cavity, first what others cover; attenuation and masks that do not overlap."""
    texture, gas = fractal_noise(draw.rng, draw.shape, (24, 24)), draw.uniform(0.1, 0.2)
    value = _bowel(draw, value, body)
    masks: dict[str, BoolArray] = {}
    free = body.cavity.copy()
    for name in ("aorta", "vena cava", "left kidney", "right kidney", "spleen", "liver", "stomach"):
        if name not in organs:
            continue
        section = organs[name]
        mask = (section < 1) & free
        free &= ~mask
        masks[name] = mask
        edge = soft_below(section, 1.0, 0.12) * mask
        inside = hu["kidneys" if name.endswith("kidney") else name] if name != "stomach" else _FLUID
        value = mix(value, inside + 4 * texture, edge)
        if name.endswith("kidney"):
            value = mix(value, _FAT * 0.4, soft_below(section, 0.42, 0.2) * mask)
        if name == "stomach" and mask.any():
            top = body.v < float(body.v[mask].min()) + gas
            value = mix(value, _AIR, (mask & top & (section < 0.85)).astype(np.float32))
    return value, masks


def _bowel(draw: Draw, value: FloatArray, body: _Body) -> FloatArray:
    """Loops in front, more of them the lower the level; some hold air."""
    for _ in range(14):
        centre = (draw.uniform(-0.6, 0.2), draw.uniform(-0.65, 0.65))
        size, air, low = draw.uniform(0.07, 0.14), draw.chance(0.25), draw.uniform(-0.6, 0.5)
        if body.level > low:
            continue
        loop = blob(body.v, body.u, centre=centre, axes=(size, size * 1.2))
        value = mix(value, 38.0, soft_below(loop, 1.0, 0.15) * body.cavity)
        value = mix(value, _AIR if air else _FLUID, soft_below(loop, 0.7, 0.2) * body.cavity)
    return value


def _lungs(
    value: FloatArray, structures: Mapping[str, BoolArray], body: _Body
) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Their bases at the upper levels, around the dome of the diaphragm."""
    radius = 1.9 - 1.2 * body.level
    dome = blob(body.v, body.u, centre=(-0.2, 0.0), axes=(radius, radius))
    air = body.cavity & (dome > 1)
    value = mix(value, -780.0, soft_below(1.0, dome, 0.05) * body.cavity)
    kept = {name: mask & ~air for name, mask in structures.items()}
    return value, {**kept, "lungs": air} if air.any() else kept


def _bones(draw: Draw, value: FloatArray, body: _Body) -> FloatArray:
    """Vertebra with its canal at every level, ribs in the upper half."""
    v, u = body.v, body.u
    disc = blob(v, u, centre=(0.44, 0.0), axes=(0.17, 0.16))
    arch = blob(v, u, centre=(0.66, 0.0), axes=(0.13, 0.17))
    value = mix(value, _BONE * 0.75, soft_below(arch, 1.0, 0.15))
    value = mix(value, 30.0, soft_below(blob(v, u, centre=(0.64, 0.0), axes=(0.065, 0.07)), 1.0, 0.2))
    value = mix(value, _BONE * 0.6, soft_below(disc, 1.0, 0.1))
    value = mix(value, _BONE, soft_below(np.abs(disc - 0.95), 0.06, 0.06))
    angle = np.arctan2(v, u)
    for _ in range(14):
        at, length = draw.uniform(-np.pi, np.pi), draw.uniform(0.05, 0.12)
        if body.level < 0.05 or abs(np.sin(at) + 0.75) < 0.25:
            continue
        along = np.abs((angle - np.float32(at) + np.pi) % (2 * np.pi) - np.pi)
        rib = np.maximum(np.abs(body.outline - np.float32(body.rim - 0.04)) / 0.028, along / np.float32(length))
        value = mix(value, _BONE, soft_below(rib, 1.0, 0.3))
    return value


def _caption(draw: Draw, words: dict[str, str]) -> str:
    head = draw.pick(
        ("abdominal CT", "axial CT slice of the abdomen", "CT of the abdomen", "computed tomography slice")
    )
    phase = draw.pick(("", f"{words['phase']} "))
    if words["finding"] == "none":
        return sentence(f"{phase}{head} below the liver")
    section = draw.pick((f"a {words['size']} section of the", f"a {words['size']} part of the"))
    return sentence(f"{phase}{head} showing {section} liver")


ABDOMEN = Modality(
    name="abdominal-ct",
    build=build,
    phrase="liver",
    options={"phase": PHASES, "level": LEVELS},
    findings=("liver", "spleen", "kidneys", "left kidney", "right kidney"),
    exclusive=("liver", "spleen", "kidneys", "left kidney", "right kidney"),
    at_level=at_level,
    present=0.85,
)

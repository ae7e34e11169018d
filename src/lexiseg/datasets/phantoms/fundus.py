"""Fundus photographs: optic disc with its cup, vessels and macula in a round field, as their luminance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.shapes import (
    blob,
    coordinates,
    fractal_noise,
    harmonic_profile,
    mix,
    segment_distance,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.words import a, place_of, sentence, size_of, where
from lexiseg.values.arrays import BoolArray, FloatArray

EYES = ("right", "left")
CUPS = {"small": (0.3, 0.45), "large": (0.6, 0.78)}
"""Height of the cup, as a share of the disc's."""

SMALL, LARGE = 0.012, 0.022
"""Fractions of the image's area below which a disc is small, and from which it is large."""

_HEADS = ("fundus photograph", "retinal photograph", "colour fundus image", "photograph of the back of the eye")
_WITHOUT = ("of the periphery without the optic disc", "with no optic disc in view", "beside the optic disc")

Point = tuple[float, float]
Segment = tuple[Point, Point, float]
"""Two ends (y, x) and the half width of a piece of a vessel, in half the image's shorter side."""


@dataclass(frozen=True, eq=False)
class _View:
    """What the camera looks at.

    Attributes:
        y, x: positions of pixels, half the image's shorter side being 1.
        centre: (y, x) of the disc.
        side: 1 of a right eye, -1 of a left one.
        radius: of the disc, along x.
    """

    y: FloatArray
    x: FloatArray
    centre: Point
    side: float
    radius: float


def build(draw: Draw) -> Rendering:
    """One fundus photograph.

    The field is round and black around. In a right eye the disc lies on the right of the image, and the macula some
    two and a half discs to its left. Without its target the camera looks at the periphery, where only the ends of
    vessels are seen.
    """
    y, x = coordinates(draw.shape, angle=draw.uniform(-0.08, 0.08))
    eye = draw.choice("eye", EYES)
    side = 1.0 if eye == "right" else -1.0
    radius, cup = draw.uniform(0.12, 0.17), draw.choice("cup", tuple(CUPS), (3, 2))
    share = draw.uniform(*CUPS[cup])
    centre = (draw.uniform(-0.08, 0.08), side * draw.uniform(0.25, 0.45))
    if not draw.present:
        centre = (centre[0] + draw.sign() * draw.uniform(0.2, 0.5), side * draw.uniform(1.5, 1.9))
    view = _View(y, x, centre, side, radius)
    field = soft_below(np.hypot(y, x), draw.uniform(0.9, 0.98), 0.02)
    seen = field > 0.5

    value = _background(draw, view)
    value, disc, hollow = _disc(draw, value, view, share)
    value, vessels = _vessels(draw, value, view)
    pixels = _photograph(draw, value, view, field)

    masks = {"optic disc": disc & seen, "optic cup": hollow & seen, "retinal vessels": vessels & seen}
    structures = {name: mask for name, mask in masks.items() if mask.any()}
    words = {"finding": "none", "eye": eye, "cup": "none"}
    if "optic disc" in structures:
        mask = structures["optic disc"]
        words |= {"finding": "optic disc", "cup": cup, "place": place_of(mask)}
        words["size"] = size_of(mask, small=SMALL, large=LARGE)
    return Rendering(pixels, structures, words, _caption(draw, words))


def _background(draw: Draw, view: _View) -> FloatArray:
    """The retina's brightness: a choroid that shines through, and the macula's dark spot."""
    value = draw.uniform(0.36, 0.5) + 0.035 * fractal_noise(draw.rng, draw.shape, (5, 5), octaves=4)
    # Vessels of the choroid, wide and faint.
    value += draw.uniform(0.0, 0.03) * np.abs(smooth_noise(draw.rng, draw.shape, (11, 11)))
    spot_at = (view.centre[0] + 0.06, view.centre[1] - view.side * 5.0 * view.radius)
    spot = blob(view.y, view.x, centre=spot_at, axes=(0.17, 0.2))
    return mix(value, value * draw.uniform(0.55, 0.75), np.exp(-(spot**2)))


def _disc(draw: Draw, value: FloatArray, view: _View, share: float) -> tuple[FloatArray, BoolArray, BoolArray]:
    """The disc, taller than wide, with a brighter cup; brightness and both masks."""
    y, x, centre, radius = view.y, view.x, view.centre, view.radius
    tall = draw.uniform(1.04, 1.2)
    outline = blob(y, x, centre=centre, axes=(radius * tall, radius), profile=harmonic_profile(draw.rng, 0.02))
    offset = (centre[0] + draw.uniform(-0.05, 0.05) * radius, centre[1] + draw.uniform(-0.1, 0.1) * radius)
    wide = share * draw.uniform(0.85, 1.0)
    hollow = blob(
        y, x, centre=offset, axes=(radius * tall * share, radius * wide), profile=harmonic_profile(draw.rng, 0.03)
    )
    rim = draw.uniform(0.68, 0.8)
    value = mix(value, rim + 0.03 * smooth_noise(draw.rng, draw.shape, (30, 30)), soft_below(outline, 1.0, 0.14))
    value = mix(value, min(rim + draw.uniform(0.12, 0.2), 1.0), soft_below(hollow, 1.0, 0.3))
    return value, outline < 1, hollow < 1


def _vessels(draw: Draw, value: FloatArray, view: _View) -> tuple[FloatArray, BoolArray]:
    """Two arcades and their branches, darker than the retina: an artery and a wider vein in each."""
    depth = np.zeros(draw.shape, np.float32)
    inside = np.zeros(draw.shape, np.bool_)
    for vertical in (-1.0, 1.0):
        for towards in (-view.side, view.side):
            for width in (draw.uniform(0.013, 0.018), draw.uniform(0.018, 0.025)):
                for start, end, half in _arcade(draw, view, (vertical, towards), width):
                    away = segment_distance(view.y, view.x, start, end)
                    depth = np.maximum(depth, soft_below(away, half, max(0.006, half * 0.8)))
                    inside |= away < half
    return mix(value, value * draw.uniform(0.42, 0.6), depth * draw.uniform(0.75, 0.95)), inside


def _arcade(draw: Draw, view: _View, leaves: Point, width: float) -> list[Segment]:
    """A vessel that leaves the disc up or down, bends towards one side (`leaves`), thins, and gives off branches."""
    (vertical, towards), centre, radius = leaves, view.centre, view.radius
    bend = draw.uniform(0.5, 0.9) if towards * centre[1] < 0 else draw.uniform(1.0, 1.6)
    at = (centre[0] + vertical * 0.2 * radius, centre[1] + draw.uniform(-0.3, 0.3) * radius)
    heading = np.array([vertical, 0.25 * towards])
    pieces: list[Segment] = []
    # From a disc beyond the edge of the picture vessels come a long way.
    for step in range(14 if draw.present else 26):
        heading = heading + 0.11 * bend * np.array([-0.35 * vertical, towards]) + draw.rng.normal(0, 0.06, 2)
        heading /= max(float(np.hypot(*heading)), 1e-6)
        end = (at[0] + 0.11 * float(heading[0]), at[1] + 0.11 * float(heading[1]))
        half = width * max(1 - 0.055 * step, 0.3)
        pieces.append((at, end, half))
        if step % 3 == 0 and step:
            turn = draw.sign() * draw.uniform(0.5, 0.9)
            c, s = float(np.cos(turn)), float(np.sin(turn))
            away = np.array([c * heading[0] - s * heading[1], s * heading[0] + c * heading[1]])
            pieces += _twig(draw, end, away, 0.6 * half)
        at = end
    return pieces


def _twig(draw: Draw, at: Point, heading: np.ndarray, half: float) -> list[Segment]:
    pieces: list[Segment] = []
    for step in range(4):
        heading = heading + draw.rng.normal(0, 0.18, 2)
        heading = heading / max(float(np.hypot(*heading)), 1e-6)
        end = (at[0] + 0.08 * float(heading[0]), at[1] + 0.08 * float(heading[1]))
        pieces.append((at, end, half * (1 - 0.18 * step)))
        at = end
    return pieces


def _photograph(draw: Draw, value: FloatArray, view: _View, field: FloatArray) -> FloatArray:
    """What a fundus camera makes of it: uneven light, its blur and grain, black outside of the field."""
    lit = 1 - draw.uniform(0.1, 0.35) * (
        np.square(view.y - draw.uniform(-0.2, 0.2)) + np.square(view.x - draw.uniform(-0.2, 0.2))
    )
    blurred = gaussian_filter(value * lit, max(0.3, 0.002 * min(draw.shape)))
    grain = draw.uniform(0.004, 0.015) * draw.rng.standard_normal(draw.shape, dtype=np.float32)
    return _coloured(np.asarray(np.clip((blurred + grain) * field, 0, 1), np.float32))


def _coloured(light: FloatArray) -> FloatArray:
    """Brightness (H, W) as the eye's colours (H, W, 3): red ground, darker vessels, a yellow disc."""
    return np.stack([np.minimum(1.25 * light, 1), np.minimum(1.05 * light**1.5, 1), 0.9 * light**2.2], -1)


def _caption(draw: Draw, words: dict[str, str]) -> str:
    head = draw.pick(_HEADS)
    if words["finding"] == "none":
        return sentence(f"{head} {draw.pick(_WITHOUT)}")
    extra = draw.pick(("", f"of the {words['eye']} eye"))
    cup = draw.pick(("", f"with {a(words['cup'])} cup"))
    return sentence(f"{head} {extra} showing {a(words['size'])} optic disc {where(words['place'])} {cup}")


FUNDUS = Modality(
    name="fundus-photograph",
    build=build,
    phrase="optic disc",
    options={"eye": EYES, "cup": tuple(CUPS)},
    findings=("optic disc", "optic cup"),
    exclusive=("optic disc", "optic cup", "retinal vessels"),
    present=0.9,
)

"""Chest X-ray, posterior-anterior: what the beam meets on its way, seen as a negative."""

from __future__ import annotations

import numpy as np

from lexiseg.datasets.phantoms.chest_anatomy import (
    Thorax,
    draw_body,
    draw_ribs,
    draw_shoulders,
    draw_spine,
    draw_thorax,
    draw_vessels,
)
from lexiseg.datasets.phantoms.chest_finding import AREAS, FINDINGS, draw_finding
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.modality import Modality, Rendering
from lexiseg.datasets.phantoms.toolbox.burnin import write_text
from lexiseg.datasets.phantoms.toolbox.fields import fractal_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob
from lexiseg.datasets.phantoms.toolbox.words import a, place_of, sentence, size_of, where
from lexiseg.datasets.phantoms.toolbox.xray import expose
from lexiseg.scans.scan import BoolArray, FloatArray

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

"""Breast ultrasound: layers under the probe, and a mass among them."""

from __future__ import annotations

from lexiseg.datasets.phantoms.breast_mass import AREAS, KINDS, paint_mass
from lexiseg.datasets.phantoms.breast_tissue import attenuate, develop, draw_layers
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.modality import Modality, Rendering
from lexiseg.datasets.phantoms.toolbox.burnin import write_callipers, write_text
from lexiseg.datasets.phantoms.toolbox.words import a, place_of, sentence, size_of, where

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

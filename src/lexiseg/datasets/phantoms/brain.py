"""Brain MRI: axial, coronal and sagittal slices in four contrasts."""

from __future__ import annotations

from lexiseg.datasets.phantoms.brain_anatomy import AREAS, KINDS, PLANES, SIGNAL, draw_head, paint_lesion, paint_tissues
from lexiseg.datasets.phantoms.imaging import acquire
from lexiseg.datasets.phantoms.phantom import Draw, Modality, Rendering
from lexiseg.datasets.phantoms.words import a, place_of, sentence, size_of, where

SMALL, LARGE = 0.012, 0.035
"""Fractions of the image's area below which a tumor is small, and from which it is large."""
COLUMNS = (0.4, 0.6)
"""Fractions of the head's width where "left" ends and "right" begins."""

_CONTRASTS = tuple(SIGNAL)
_NORMAL = ("with no tumor", "without a tumor", "of a normal brain", "with no focal lesion", "showing no mass")


def build(draw: Draw) -> Rendering:
    """One slice. Left and right are those of the image as displayed, relative to the head's outline."""
    contrast = draw.choice("contrast", _CONTRASTS, (2, 4, 2, 4))
    head = draw_head(draw)
    value, structures = paint_tissues(draw, head, contrast)
    words = {"finding": "none", "plane": head.plane, "contrast": contrast}
    if draw.present:
        kind = draw.choice("kind", KINDS, (6, 3, 1) if head.plane == "axial" else (5, 3, 2))
        lesion = paint_lesion(draw, head, value, kind=kind, contrast=contrast)
        value = lesion.value
        tumor = lesion.structures["brain tumor"]
        if "ventricles" in structures:
            structures["ventricles"] = structures["ventricles"] & ~tumor
        structures |= lesion.structures
        words |= {
            "finding": kind,
            "size": size_of(tumor, small=SMALL, large=LARGE),
            "place": place_of(tumor, within=structures["head"], columns=COLUMNS),
            "signal": lesion.look,
            "edema": "edema" if "edema" in structures else "none",
        }
    return Rendering(acquire(draw, value), structures, words, _caption(draw, words))


def _caption(draw: Draw, words: dict[str, str]) -> str:
    plane, contrast = words["plane"], words["contrast"]
    weighted = contrast if contrast == "FLAIR" else f"{contrast}-weighted"
    head = draw.pick(
        (
            f"{weighted} brain MRI",
            f"{plane} {weighted} brain MRI",
            f"{plane} slice of a {weighted} MRI of the brain",
            "brain MRI",
        )
    )
    if words["finding"] == "none":
        return sentence(f"{head} {draw.pick(_NORMAL)}")
    look = draw.pick((words["size"], f"{words['size']} {words['signal']}", f"{words['size']}, {words['signal']}"))
    tail = draw.pick(("", "with surrounding edema")) if words["edema"] == "edema" else ""
    return sentence(f"{head} showing {a(look)} {words['finding']} {where(words['place'])} {tail}")


BRAIN = Modality(
    name="brain-mri",
    build=build,
    phrase="brain tumor",
    options={"kind": KINDS, "plane": PLANES, "contrast": _CONTRASTS, "finding_size": tuple(AREAS)},
    findings=("brain tumor", *KINDS),
    exclusive=("brain", "brain tumor", *KINDS),
)

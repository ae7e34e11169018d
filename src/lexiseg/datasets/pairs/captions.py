"""Captions put together from what is known of a phantom, and captions that are wrong in one respect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.words import sentence
from lexiseg.errors import UsageError

Attributes = Mapping[str, str]

_SIZES = ("small", "medium", "large")
_PLACES = (
    "upper left", "upper center", "upper right", "left", "center", "right", "lower left", "lower center",
    "lower right",
)  # fmt: skip


@dataclass(frozen=True)
class HardNegative:
    """A caption that is true but for one attribute.

    Attributes:
        attribute: which one.
        value: what the caption says of it; not what the image shows.
        text: the caption.
    """

    attribute: str
    value: str
    text: str


def compose(modality: str, attributes: Attributes, *, wording: int = 0) -> str:
    """Everything that is known of a phantom in one line, as a radiologist would note it.

    Short, because many text towers read few tokens: all of it fits into CLIP's 77, and nearly all into 32.

    Args:
        modality: one of `lexiseg.datasets.phantoms.registry.MODALITIES`.
        attributes: a phantom's.
        wording: which of the ways to say it; any number.

    Raises:
        UsageError: an unknown modality.
    """
    return sentence(_grammar(modality)(attributes, wording))


def hard_negatives(
    modality: str, attributes: Attributes, *, wording: int = 0, seed: int = 0
) -> tuple[HardNegative, ...]:
    """For each attribute that the caption names, the caption with another value of it, all else the same.

    Only what shows is exchanged: words that may both be true of one image never stand for one another.

    Args:
        modality: as for `compose`.
        attributes: a phantom's.
        wording: of the true caption.
        seed: of the values that are chosen.

    Raises:
        UsageError: an unknown modality.
    """
    grammar = _grammar(modality)
    truth = sentence(grammar(attributes, wording))
    rng = np.random.default_rng([seed, wording])
    found = []
    for name, values in _CONTRASTS[modality].items():
        # Nothing is known of the size or place of a finding that is not there.
        if name not in attributes or (name == "finding" and attributes[name] == "none"):
            continue
        shown = attributes[name]
        others = [value for value in values if value != shown and value not in _ALSO.get(shown, ())]
        for index in rng.permutation(len(others)):
            text = sentence(grammar({**attributes, name: others[index]}, wording))
            if text != truth:
                found.append(HardNegative(name, others[index], text))
                break
    return tuple(found)


def _breast(words: Attributes, wording: int) -> str:
    head = ("breast ultrasound", "ultrasound of the breast", "breast sonogram")[wording % 3]
    if words["finding"] == "none":
        return f"{head}: fat and gland with no tumor"
    behind = {"shadow": "posterior shadowing", "enhancement": "posterior enhancement"}.get(
        words["posterior"], "no posterior change"
    )
    what = f"{words['size']} {words['echo']} {words['finding']}, {words['place']}"
    signs = [f"{words['margin']} margin", words["shape"]]
    return ", ".join((f"{head}: {what}", *(reversed(signs) if wording // 3 % 2 else signs), behind))


def _brain(words: Attributes, wording: int) -> str:
    contrast = words["contrast"] if words["contrast"] == "FLAIR" else f"{words['contrast']}-weighted"
    head = (f"{words['plane']} {contrast} brain MRI", f"{contrast} MRI of the brain, {words['plane']}")[wording % 2]
    if words["finding"] == "none":
        return f"{head} with no tumor"
    around = "with edema" if words["edema"] == "edema" else "without edema"
    return f"{head}: {words['size']} {words['signal']} {words['finding']}, {words['place']}, {around}"


def _chest(words: Attributes, wording: int) -> str:
    head = ("frontal chest X-ray", "chest radiograph", "chest X-ray")[wording % 3]
    rest = f"{words['lungs']} lung fields, {words['heart']} heart"
    if words["finding"] == "none":
        return f"{head}: clear lungs with no nodule and no opacity, {rest}"
    return (
        f"{head}: {words['size']} {words['texture']} {words['finding']} in the {words['side']} lung, "
        f"{words['place']} of image, {rest}"
    )


def _fetal(words: Attributes, wording: int) -> str:
    head = ("fetal ultrasound", "obstetric ultrasound", "prenatal ultrasound")[wording % 3]
    placenta = "no placenta" if words["placenta"] == "none" else f"{words['placenta']} placenta"
    if words["finding"] == "none":
        other = {"abdomen": "fetal abdomen", "limb": "fetal limb"}.get(words["other"], "soft tissue")
        return f"{head}: {other} and no fetal head, {placenta}"
    cavum = "cavum seen" if words["cavum"] == "seen" else "no cavum"
    return (
        f"{head}: {words['size']} fetal head, {words['place']}, lying {words['orientation']}, "
        f"{words['skull']} skull, {words['midline']} midline, {cavum}, {placenta}"
    )


def _fundus(words: Attributes, wording: int) -> str:
    head = ("fundus photograph", "retinal photograph", "photograph of the fundus")[wording % 3]
    if words["finding"] == "none":
        return f"{head} of the periphery with no optic disc"
    return f"{head} of the {words['eye']} eye: {words['size']} optic disc, {words['place']}, {words['cup']} cup"


def _abdomen(words: Attributes, wording: int) -> str:
    head = ("abdominal CT", "CT of the abdomen", "axial CT of the abdomen")[wording % 3]
    if words["finding"] == "none":
        return f"{words['phase']} {head} below the liver"
    return f"{words['phase']} {head}: {words['size']} section of the liver, {words['place']}"


_GRAMMARS: Mapping[str, Callable[[Attributes, int], str]] = {
    "breast-ultrasound": _breast,
    "brain-mri": _brain,
    "chest-xray": _chest,
    "fetal-ultrasound": _fetal,
    "fundus-photograph": _fundus,
    "abdominal-ct": _abdomen,
}

_CONTRASTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "breast-ultrasound": {
        "finding": ("benign tumor", "malignant tumor", "cyst"),
        "size": _SIZES,
        "place": _PLACES,
        "margin": ("circumscribed", "spiculated", "indistinct"),
        "echo": ("anechoic", "hypoechoic", "complex"),
        "shape": ("taller than wide", "wider than tall"),
        "posterior": ("shadow", "enhancement"),
    },
    "brain-mri": {
        "finding": ("glioma", "meningioma", "pituitary tumor"),
        "size": _SIZES,
        "place": _PLACES,
        "plane": ("axial", "coronal", "sagittal"),
        "contrast": ("T1", "T2", "FLAIR", "contrast-enhanced T1"),
        "signal": ("hypointense", "hyperintense", "ring-enhancing", "homogeneously enhancing"),
        "edema": ("edema", "none"),
    },
    "chest-xray": {
        "finding": ("lung nodule", "lung opacity"),
        "size": _SIZES,
        "side": ("left", "right"),
        "place": _PLACES,
        "lungs": _SIZES,
        "heart": ("normal-sized", "enlarged"),
    },
    "fetal-ultrasound": {
        "size": _SIZES,
        "place": _PLACES,
        "orientation": ("horizontally", "vertically", "obliquely"),
        "midline": ("continuous", "indistinct"),
        "cavum": ("seen", "not seen"),
        "placenta": ("anterior", "posterior", "none"),
    },
    "fundus-photograph": {
        "size": _SIZES,
        "place": _PLACES,
        "eye": ("left", "right"),
        "cup": ("small", "large"),
    },
    "abdominal-ct": {
        "size": _SIZES,
        "place": _PLACES,
        "phase": ("unenhanced", "portal venous"),
    },
}
"""Values that exclude one another, by attribute."""

# What an image shows may also be called so: "markedly hypoechoic" is hypoechoic, "round" nearly any shape.
_ALSO: Mapping[str, frozenset[str]] = {
    "mildly hypoechoic": frozenset({"hypoechoic"}),
    "markedly hypoechoic": frozenset({"hypoechoic", "anechoic"}),
    "heterogeneous": frozenset({"complex", "hypoechoic"}),
    "complex": frozenset({"hypoechoic"}),
    "hypoechoic": frozenset({"complex"}),
    "round": frozenset({"taller than wide", "wider than tall"}),
    "microlobulated": frozenset({"spiculated", "indistinct"}),
    "angular": frozenset({"spiculated"}),
    "interrupted": frozenset({"continuous"}),
    "faint": frozenset({"indistinct"}),
    "heterogeneously enhancing": frozenset({"ring-enhancing"}),
    "homogeneously enhancing": frozenset({"hyperintense"}),
    "ring-enhancing": frozenset({"hypointense", "hyperintense"}),
    "non-enhancing": frozenset({"hypointense"}),
    "contrast-enhanced T1": frozenset({"T1"}),
    "cyst": frozenset({"benign tumor"}),
}


def _grammar(modality: str) -> Callable[[Attributes, int], str]:
    if modality not in _GRAMMARS:
        raise UsageError(f"no captions are known for {modality!r}; expected one of {', '.join(_GRAMMARS)}")
    return _GRAMMARS[modality]

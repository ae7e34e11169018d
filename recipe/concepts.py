"""What the bundled encoder is taught to name, and what it is taught to be silent about.

A concept is something with a mask; its synonyms are the ways a person may ask for it.  For a given image a
concept is present (with a mask), absent, or unknown: the heart is in every chest X-ray, but nobody drew it,
so on real X-rays it is neither a positive nor a negative.
"""

from __future__ import annotations

import random
import string
from functools import cache
from hashlib import sha256

from open_clip import SimpleTokenizer

SYNONYMS: dict[str, tuple[str, ...]] = {
    "breast tumor": (
        "breast tumor",
        "breast tumour",
        "tumor in the breast",
        "breast mass",
        "breast lesion",
        "breast nodule",
        "hypoechoic breast mass",
        "a mass in the breast ultrasound",
        "breast cancer or benign lump",
        "breast lump",
    ),
    "malignant breast tumor": (
        "malignant breast tumor",
        "malignant breast tumour",
        "breast cancer",
        "breast carcinoma",
        "malignant breast lesion",
        "suspicious breast mass",
    ),
    "benign breast tumor": (
        "benign breast tumor",
        "benign breast tumour",
        "fibroadenoma",
        "benign breast lesion",
        "breast cyst or fibroadenoma",
    ),
    "tumor": ("tumor", "tumour", "lesion", "mass", "neoplasm", "abnormal mass", "a tumor"),
    "brain tumor": (
        "brain tumor",
        "brain tumour",
        "tumor in the brain",
        "brain lesion",
        "intracranial mass",
        "cerebral tumor",
        "brain mass",
        "a lesion in the brain MRI",
        "intracranial tumor",
        "brain cancer",
    ),
    "glioma": ("glioma", "brain glioma", "lower-grade glioma", "glioblastoma or glioma", "glial tumor"),
    "meningioma": ("meningioma", "meningeal tumor", "extra-axial tumor"),
    "pituitary tumor": ("pituitary tumor", "pituitary adenoma", "sellar mass", "pituitary macroadenoma"),
    "lungs": (
        "lungs",
        "both lungs",
        "lung",
        "lung fields",
        "the lungs",
        "lungs on a chest X-ray",
        "pulmonary fields",
        "left and right lung",
        "lung parenchyma",
    ),
    "left lung": ("left lung", "the left lung", "left lung field", "left pulmonary field"),
    "right lung": ("right lung", "the right lung", "right lung field", "right pulmonary field"),
    "fetal head": (
        "fetal head",
        "foetal head",
        "head of the fetus",
        "fetal skull",
        "baby's head",
        "fetus head",
        "the fetal head in an ultrasound",
        "fetal cranium",
        "head of the baby",
        "head circumference",
    ),
    "heart": ("heart", "cardiac silhouette", "the heart", "heart shadow"),
    "ribs": ("ribs", "rib cage", "rib bones"),
    "lung nodule": ("lung nodule", "pulmonary nodule", "nodule in the lung"),
    "brain": ("brain", "the brain", "brain tissue", "whole brain"),
    "skull": ("skull", "skull bone", "cranial bone"),
    "ventricles": ("ventricles", "lateral ventricles", "brain ventricles", "cerebrospinal fluid spaces"),
    "edema": ("edema", "peritumoral edema", "oedema", "brain edema"),
    "pectoral muscle": ("pectoral muscle", "chest wall muscle", "pectoralis muscle"),
    "skin": ("skin", "skin layer"),
    "fat": ("fat", "subcutaneous fat", "fat layer"),
    "fibroglandular tissue": ("fibroglandular tissue", "glandular tissue"),
}
"""Concept -> ways to say it.  Left and right are the patient's, as in radiology."""

HOME: dict[str, str] = {
    "breast tumor": "breast",
    "malignant breast tumor": "breast",
    "benign breast tumor": "breast",
    "pectoral muscle": "breast",
    "skin": "breast",
    "fat": "breast",
    "fibroglandular tissue": "breast",
    "brain tumor": "brain",
    "glioma": "brain",
    "meningioma": "brain",
    "pituitary tumor": "brain",
    "brain": "brain",
    "skull": "brain",
    "ventricles": "brain",
    "edema": "brain",
    "lungs": "chest",
    "left lung": "chest",
    "right lung": "chest",
    "heart": "chest",
    "ribs": "chest",
    "lung nodule": "chest",
    "fetal head": "fetal",
    "tumor": "",
}
"""Concept -> the organ whose scans can show it; "" for words that fit several."""

MAYBE_ELSEWHERE: dict[str, frozenset[str]] = {
    "fetal": frozenset({"brain", "skull", "ventricles", "heart", "ribs", "skin", "fat"}),
    "chest": frozenset({"skin", "fat", "pectoral muscle"}),
    "brain": frozenset({"skin", "fat"}),
    "breast": frozenset({"ribs"}),
}
"""Organ -> concepts of another organ that may be seen there all the same: never used as negatives."""

ELSEWHERE: tuple[str, ...] = (
    "kidney",
    "left kidney",
    "liver",
    "spleen",
    "pancreas",
    "gallbladder",
    "stomach",
    "colon polyp",
    "small bowel",
    "urinary bladder",
    "prostate",
    "uterus",
    "ovary",
    "thyroid nodule",
    "knee cartilage",
    "femur",
    "hip joint",
    "spine",
    "lumbar vertebra",
    "retina",
    "optic disc",
    "blood vessels of the retina",
    "skin melanoma",
    "tooth",
    "mandible",
    "carotid artery",
    "aorta",
    "hand bones",
    "wrist fracture",
    "ankle",
    "lymph node",
    "appendix",
    "esophagus",
    "left ventricle of the heart on MRI",
    "coronary artery",
    "parotid gland",
    "cochlea",
    "adrenal gland",
    "meniscus",
    "anterior cruciate ligament",
    "liver metastasis",
    "kidney stone",
    "hepatic vein",
    "polyp",
    "cell nuclei",
    "surgical instrument",
    "shoulder joint",
    "tibia",
    "hernia",
    "placental abruption",
    "testis",
    "cervix",
)
"""Organs and findings that none of the four modalities' training scans show."""

NORMAL: tuple[str, ...] = (
    "normal",
    "normal tissue",
    "healthy tissue",
    "background",
    "no abnormality",
    "normal breast tissue",
    "normal brain without tumor",
    "no tumor",
    "nothing",
    "empty background",
    "healthy",
    "no finding",
)
"""Phrases that name nothing that can be outlined: their mask is empty everywhere."""

EVERYDAY: tuple[str, ...] = (
    "bicycle",
    "dog",
    "banana",
    "airplane",
    "coffee cup",
    "mountain",
    "guitar",
    "a red car",
    "pizza",
    "computer keyboard",
    "sailing boat",
    "tree",
    "house",
    "shoe",
    "football",
    "elephant",
    "clock",
    "umbrella",
    "train station",
    "book",
    "chair",
    "window",
    "street light",
    "garden",
    "river",
    "horse",
    "cake",
    "bottle",
    "wallet",
    "violin",
    "tractor",
    "quarterly report",
    "the stock market",
    "hello world",
    "breakfast",
    "summer holiday",
    "password",
    "music festival",
)
"""Things that are in no scan."""


ORGANS_ELSEWHERE: tuple[str, ...] = (
    "kidney", "liver", "pancreas", "prostate", "colon", "ovary", "thyroid", "bladder", "stomach", "bone",
    "spine", "uterus", "skin", "adrenal", "parotid", "knee", "spleen", "esophagus",
)  # fmt: skip
_FINDINGS = ("tumor", "tumour", "cancer", "lesion", "mass", "carcinoma", "cyst", "nodule", "metastasis")


def elsewhere(rng: random.Random) -> str:
    """An organ or finding that none of the training scans show; a third are tumours of such an organ."""
    if rng.random() < 1 / 3:
        organ, finding = rng.choice(ORGANS_ELSEWHERE), rng.choice(_FINDINGS)
        return f"{organ} {finding}" if rng.random() < 0.7 else f"{finding} of the {organ}"
    return rng.choice(ELSEWHERE)


@cache
def vocabulary(*, held_out: bool = False) -> tuple[str, ...]:
    """CLIP's whole words of four letters or more, less those that are taught.

    A tenth of them, by hash, is held out: no training sees them, so that benchmarks may ask for them.
    """
    taught = {w for phrases in SYNONYMS.values() for p in phrases for w in p.lower().split()}
    taught |= {w for p in (*NORMAL, "image scan medical region showing seen visible imaging") for w in p.split()}
    whole = (token.removesuffix("</w>") for token in SimpleTokenizer().encoder if token.endswith("</w>"))
    words = (w for w in whole if len(w) >= 4 and w.isascii() and w.isalpha() and w not in taught)
    known = {w for p in (*EVERYDAY, *ELSEWHERE, *ORGANS_ELSEWHERE) for w in p.split()} if held_out else set()
    return tuple(w for w in words if (sha256(w.encode()).digest()[0] < 26) == held_out and w not in known)


def nonsense(rng: random.Random) -> str:
    """A phrase that names nothing: an everyday thing, words of the vocabulary, made-up ones, or a word that
    begins as a taught one.

    The tokenizer cuts words to pieces, and a piece that was only ever seen in "glioma" would speak for it
    wherever it stands.
    """
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(EVERYDAY)
    if kind < 0.4:
        return " ".join(rng.choice(vocabulary()) for _ in range(rng.randint(1, 3)))
    if kind < 0.65:
        taught = rng.choice(_TAUGHT_WORDS)
        return " ".join([taught[: rng.randint(3, 4)] + _syllables(rng, 2, 3), *_other_words(rng)])
    words = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            words.append(_syllables(rng, 2, 4))
        else:
            words.append("".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9))))
    return " ".join(words)


_TAUGHT_WORDS = sorted({w for s in SYNONYMS.values() for p in s for w in p.lower().split() if len(w) > 4})


def _syllables(rng: random.Random, least: int, most: int) -> str:
    vowels, consonants = "aeiou", "bcdfghjklmnprstvwz"
    return "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(rng.randint(least, most)))


def _other_words(rng: random.Random) -> list[str]:
    return [rng.choice(EVERYDAY)] if rng.random() < 0.4 else []


def is_absent(concept: str, organ: str) -> bool:
    """True where a concept of another organ certainly is not in a scan of `organ` (nobody need look)."""
    home = HOME[concept]
    return bool(home) and home != organ and concept not in MAYBE_ELSEWHERE.get(organ, frozenset())

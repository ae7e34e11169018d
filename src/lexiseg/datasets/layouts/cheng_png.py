"""Cheng's brain tumours as PNG: by class with masks beside, or images/ and masks/."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, folders, is_image, stem, subfolder

CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
"""The numbers that Cheng's files have for the tumours."""

_LOOKS_FOR = (
    "folders images and masks with PNGs of equal names ('1.png'), with or without folders meningioma, "
    "glioma and pituitary in them; or these three with '1.png' and '1_mask.png'"
)


def _label(name: str) -> str:
    """The class that a folder's name means: "glioma", "glioma_tumor", "2"; "" for any other."""
    known = {str(number): label for number, label in CLASSES.items()} | {
        each: each for each in CLASSES.values()
    }
    return known.get(name.casefold().split("_")[0].split(" ")[0], "")


def _by_class(folder: Path) -> dict[str, Path]:
    return {label: each for each in folders(folder) if (label := _label(each.name))}


def _apart(folder: Path) -> bool:
    images, masks = subfolder(folder, "images"), subfolder(folder, "masks")
    return bool(images and masks and (files(images) or _by_class(images)))


def _beside(folder: Path) -> bool:
    below = _by_class(folder).values()
    return any(stem(path).endswith("_mask") for each in below for path in files(each))


def _find(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: _apart(folder) or _beside(folder), _LOOKS_FOR)
    return Found(_cases_apart(root) if _apart(root) else _cases_beside(root))


def _cases_apart(root: Path) -> list[Case]:
    images, masks = subfolder(root, "images"), subfolder(root, "masks")
    assert images is not None and masks is not None
    cases = paired(images, masks, endings=("", "_mask"))
    for label, folder in _by_class(images).items():
        # The masks may lie in folders of the same names, or all in one.
        cases += paired(folder, subfolder(masks, folder.name) or masks, endings=("", "_mask"), label=label)
    return cases


def _cases_beside(root: Path) -> list[Case]:
    cases = []
    for label, folder in _by_class(root).items():
        images = [path for path in files(folder) if is_image(path)]
        masks = by_stem(images, "_mask")
        cases += [
            Case(source=path, mask=masks.get(stem(path)), label=label)
            for path in images
            if not stem(path).endswith("_mask")
        ]
    return cases


CHENG_PNG = Layout(
    name="cheng-png", about="brain tumours in MR, as PNG (Cheng 2015)", looks_for=_LOOKS_FOR, find=_find
)
"""As PNG the set has lost its patients: neighbouring numbers are often one patient's."""

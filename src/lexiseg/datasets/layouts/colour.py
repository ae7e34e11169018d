"""Colour photographs: ISIC's skin lesions in dermoscopy, and Kvasir-SEG's polyps in endoscopy."""

from __future__ import annotations

import re
from pathlib import Path

from lexiseg.datasets.layouts.generic import paired
from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.tree import files, find_root, folders, same_or_nested, subfolder

_ISIC_LOOKS_FOR = (
    "folders ISIC2018_Task1-2_Training_Input ('ISIC_0000000.jpg') and "
    "ISIC2018_Task1_Training_GroundTruth ('ISIC_0000000_segmentation.png')"
)
_FOLDER = re.compile(r"ISIC.*_(?P<part>Training|Validation|Test)_(?P<kind>Input|GroundTruth)", re.IGNORECASE)
_SPLITS = {"training": "train", "validation": "val", "test": "test"}


def _parts(folder: Path, kind: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in folders(folder):
        match = _FOLDER.fullmatch(each.name)
        if match and match["kind"].lower() == kind:
            found.setdefault(match["part"].lower(), same_or_nested(each))
    return found


def _accepts_isic(folder: Path) -> bool:
    return bool(_parts(folder, "input").keys() & _parts(folder, "groundtruth").keys())


def _find_isic(source: Source) -> Found:
    root = find_root(source.folder, _accepts_isic, _ISIC_LOOKS_FOR)
    images, masks = _parts(root, "input"), _parts(root, "groundtruth")
    cases: list[Case] = []
    problems = []
    for part, split in _SPLITS.items():
        if part in images and part in masks:
            cases += paired(
                images[part],
                masks[part],
                endings=("_segmentation",),
                suffixes=(".jpg", ".jpeg"),
                label="skin lesion",
                split=split,
            )
        elif part in images:
            problems.append(f"{images[part].name}: left out, there is no folder of its masks beside it")
    return Found(cases, problems)


ISIC = Layout(
    name="isic", about="dermoscopy, skin lesions (ISIC 2018 task 1)", looks_for=_ISIC_LOOKS_FOR, find=_find_isic
)
"""The challenge's own parts become the column split."""


_JPEG = (".jpg", ".jpeg")
_KVASIR_LOOKS_FOR = "folders images and masks with .jpg files of equal names"


def _accepts_kvasir(folder: Path) -> bool:
    images, masks = subfolder(folder, "images"), subfolder(folder, "masks")
    return bool(images and masks and files(images, _JPEG) and files(masks, _JPEG))


def _find_kvasir(source: Source) -> Found:
    root = find_root(source.folder, _accepts_kvasir, _KVASIR_LOOKS_FOR)
    images, masks = subfolder(root, "images"), subfolder(root, "masks")
    assert images is not None and masks is not None
    return Found(paired(images, masks, suffixes=_JPEG, label="polyp"))


KVASIR = Layout(name="kvasir", about="endoscopy, polyps (Jha 2020)", looks_for=_KVASIR_LOOKS_FOR, find=_find_kvasir)
"""The masks are JPEG: inside is above half the range, as `read_mask` has it."""

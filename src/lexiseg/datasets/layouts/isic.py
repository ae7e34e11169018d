"""ISIC 2018, task 1: skin lesions in folders named ..._Input and ..._GroundTruth."""

from __future__ import annotations

import re
from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import find_root, folders, same_or_nested

_LOOKS_FOR = (
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


def _accepts(folder: Path) -> bool:
    return bool(_parts(folder, "input").keys() & _parts(folder, "groundtruth").keys())


def _find(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _LOOKS_FOR)
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
    name="isic", about="dermoscopy, skin lesions (ISIC 2018 task 1)", looks_for=_LOOKS_FOR, find=_find
)
"""The challenge's own parts become the column split."""

"""BUSI: breast ultrasound in a folder for each class, masks beside their images."""

from __future__ import annotations

import re
from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source
from lexiseg.datasets.layouts.making import union
from lexiseg.datasets.layouts.tree import files, find_root, is_image, stem, subfolder

_CLASSES = ("benign", "malignant", "normal")
_LOOKS_FOR = "folders benign, malignant and normal with 'benign (1).png' and 'benign (1)_mask.png'"
_MASK = re.compile(r"(?P<image>.+)_mask(_[0-9]+)?", re.IGNORECASE)


def _accepts(folder: Path) -> bool:
    first = [subfolder(folder, name) for name in ("benign", "malignant")]
    return all(
        each is not None and any(_MASK.fullmatch(stem(path)) for path in files(each)) for each in first
    )


def _find(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _LOOKS_FOR)
    cases: list[Case] = []
    for label in _CLASSES:
        folder = subfolder(root, label)
        if folder is None:
            continue
        masks: dict[str, list[Path]] = {}
        images = []
        for path in filter(is_image, files(folder)):
            match = _MASK.fullmatch(stem(path))
            if match:
                masks.setdefault(match["image"], []).append(path)
            else:
                images.append(path)
        cases += [Case(source=path, mask=_one(masks.get(stem(path), [])), label=label) for path in images]
    return Found(cases)


def _one(masks: list[Path]) -> Path | Derived | None:
    if len(masks) > 1:
        return union(masks)
    return masks[0] if masks else None


BUSI = Layout(
    name="busi", about="breast ultrasound, tumours (Al-Dhabyani 2020)", looks_for=_LOOKS_FOR, find=_find
)
"""Several masks of one image are merged. Normal images have masks without a tumour. There are no patients."""

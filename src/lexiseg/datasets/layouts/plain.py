"""Any set that is a folder of images and a folder of masks, whole or in parts."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import files, find_root, subfolder

_LOOKS_FOR = (
    "folders images and masks (or labels) with files of equal names, in one folder, in train, val and test, "
    "or as train_images and train_masks"
)
_IMAGES, _MASKS = ("images", "image", "imgs"), ("masks", "mask", "labels", "label")
_ENDINGS = ("", "_mask", "-mask", "_masks", "_segmentation", "_seg", "_label")
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def _pair(folder: Path, before: str = "") -> tuple[Path, Path] | None:
    images = subfolder(folder, *(before + name for name in _IMAGES))
    masks = subfolder(folder, *(before + name for name in _MASKS))
    return (images, masks) if images and masks and files(images) else None


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    """Split, images and masks of each part that lies in a folder."""
    whole = _pair(folder)
    if whole:
        return [("", *whole)]
    found = []
    for split, names in _SPLITS.items():
        part = subfolder(folder, *names)
        pairs = [_pair(part) if part else None, *(_pair(folder, f"{name}_") for name in names)]
        found += [(split, *pair) for pair in pairs if pair][:1]
    return found


def _find(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: bool(_pairs(folder)), _LOOKS_FOR)
    cases: list[Case] = []
    for split, images, masks in _pairs(root):
        cases += paired(images, masks, endings=_ENDINGS, split=split)
    return Found(cases)


PLAIN = Layout(name="plain", about="any set of images/ and masks/", looks_for=_LOOKS_FOR, find=_find)
"""A mask has its image's name, with or without "_mask" or the like behind it."""

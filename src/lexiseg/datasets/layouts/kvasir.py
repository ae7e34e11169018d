"""Kvasir-SEG: endoscopy in images/ and masks/, both JPEG."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Found, Layout, Source
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import files, find_root, subfolder

_JPEG = (".jpg", ".jpeg")
_LOOKS_FOR = "folders images and masks with .jpg files of equal names"


def _accepts(folder: Path) -> bool:
    images, masks = subfolder(folder, "images"), subfolder(folder, "masks")
    return bool(images and masks and files(images, _JPEG) and files(masks, _JPEG))


def _find(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _LOOKS_FOR)
    images, masks = subfolder(root, "images"), subfolder(root, "masks")
    assert images is not None and masks is not None
    return Found(paired(images, masks, suffixes=_JPEG, label="polyp"))


KVASIR = Layout(name="kvasir", about="endoscopy, polyps (Jha 2020)", looks_for=_LOOKS_FOR, find=_find)
"""The masks are JPEG: inside is above half the range, as `read_mask` has it."""

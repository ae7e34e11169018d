"""UDIAT (breast ultrasound, data set B): the folders original and GT."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Found, Layout, Source
from lexiseg.datasets.layouts.pairs import paired
from lexiseg.datasets.layouts.tree import files, find_root, subfolder
from lexiseg.scans.formats import IMAGE_SUFFIXES

_LOOKS_FOR = "folders original and GT with images of equal names ('000001.png')"


def _accepts(folder: Path) -> bool:
    images, masks = subfolder(folder, "original"), subfolder(folder, "GT")
    return images is not None and masks is not None and bool(files(images, IMAGE_SUFFIXES))


def _find(source: Source) -> Found:
    root = find_root(source.folder, _accepts, _LOOKS_FOR)
    images, masks = subfolder(root, "original"), subfolder(root, "GT")
    assert images is not None and masks is not None
    return Found(paired(images, masks, endings=("", "_GT", "_mask"), suffixes=IMAGE_SUFFIXES))


UDIAT = Layout(
    name="udiat", about="breast ultrasound B, lesions (Yap 2018)", looks_for=_LOOKS_FOR, find=_find
)
"""Benign and malignant are told apart in a spreadsheet only, which is not read."""

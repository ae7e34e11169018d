"""Shenzhen: chest X-rays, and lung masks that were published later and apart."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Found, Layout, Source
from lexiseg.datasets.layouts.montgomery import lung_case
from lexiseg.datasets.layouts.tree import by_stem, files, find_root, stem, subfolder

_LOOKS_FOR = "a folder CXR_png ('CHNCXR_0001_0.png') and a folder mask ('CHNCXR_0001_0_mask.png')"


def _has_masks(folder: Path) -> bool:
    return folder.name.casefold() in ("mask", "masks") and any(
        stem(path).casefold().endswith("_mask") for path in files(folder)
    )


def _has_images(folder: Path) -> bool:
    images = subfolder(folder, "CXR_png")
    return images is not None and bool(files(images))


def _find(source: Source) -> Found:
    images = subfolder(find_root(source.folder, _has_images, _LOOKS_FOR), "CXR_png")
    masks = by_stem(files(find_root(source.folder, _has_masks, _LOOKS_FOR)), "_mask")
    assert images is not None
    return Found([lung_case(path, masks.get(stem(path))) for path in files(images)])


SHENZHEN = Layout(
    name="shenzhen",
    about="chest X-rays, lungs (Jaeger 2014; Stirenko 2018)",
    looks_for=_LOOKS_FOR,
    find=_find,
)
"""96 of its 662 images have no mask."""

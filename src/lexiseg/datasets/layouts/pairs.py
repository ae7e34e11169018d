"""Images in one folder, masks of the same names in another."""

from __future__ import annotations

from pathlib import Path

from lexiseg.datasets.layouts.layout import Case
from lexiseg.datasets.layouts.tree import by_stem, files, stem
from lexiseg.scans.formats import SCAN_SUFFIXES


def paired(
    images: Path,
    masks: Path,
    *,
    endings: tuple[str, ...] = ("",),
    suffixes: tuple[str, ...] = SCAN_SUFFIXES,
    label: str = "",
    split: str = "",
) -> list[Case]:
    """A case for each image of a folder, with the mask that is named as the image is.

    Args:
        images: the images' folder.
        masks: the masks' folder.
        endings: what a mask's name may have more than its image's; the earlier wins.
        suffixes: the images' file name extensions.
        label: of all of them.
        split: of all of them.
    """
    found = by_stem(files(masks), *endings)
    return [
        Case(source=path, mask=found.get(stem(path)), label=label, split=split)
        for path in files(images, suffixes)
    ]

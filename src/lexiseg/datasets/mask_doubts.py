"""What speaks against a mask being of its image, without reading the pixels of either."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from lexiseg.io.mask_pictures import DRAWN_ON_TURNED, exif_orientation
from lexiseg.io.names import image_format
from lexiseg.io.read import regular_head
from lexiseg.io.sources import Source, describe_source

logger = logging.getLogger(__name__)

_SWAPPED = range(5, 9)
"""EXIF orientations that exchange rows and columns."""


def size_doubt(image: Path, mask: Path) -> str:
    """Why a mask is none of its image, by the sizes that their headers claim; "" where they agree or do not say.

    Of volumes the order of the axes may differ, since affines undo that. A DICOM object leaves empty frames out.
    """
    scan, drawn = (describe_source(Source.of_file(path)) for path in (image, mask))
    if scan.shape is None or drawn.shape is None or drawn.modality:
        return ""
    flat = scan.kind == drawn.kind == "image"
    if scan.shape == drawn.shape or (not flat and sorted(scan.shape) == sorted(drawn.shape)):
        return ""
    cut = 1 if flat else 0
    size, own = scan.shape[cut:], drawn.shape[cut:]
    hint, unit = "", "rows x columns" if flat else "slices x rows x columns"
    if flat and size == own[::-1] and (turned := exif_orientation(image)) in _SWAPPED:
        if image_format(regular_head(image)) == "PNG":
            return ""  # its header does not say that it is turned: the mask is as large as the turned image
        hint = f" (EXIF orientation {turned} turns the image: the mask seems to be drawn on the unturned pixels)"
    told, expected = (" x ".join(map(str, each)) for each in (own, size))
    return f"its mask has {told}, the image {expected} {unit}{hint}; expected the same"


def tell_turned(pairs: Iterable[tuple[Path, Path | None]]) -> None:
    """A line where EXIF turns images and not their masks: nobody can know which pixels those were drawn on.

    Args:
        pairs: an image and its mask each.
    """
    listed = [(image, mask) for image, mask in pairs if mask is not None]
    turned = sum(exif_orientation(image) > 1 and exif_orientation(mask) == 1 for image, mask in listed)
    if turned:
        logger.warning(
            "EXIF turns %d of %d images, and %s: look at some; if a mask was drawn on the unturned pixels, turn it or "
            "save the image upright",
            turned, len(listed), DRAWN_ON_TURNED,
        )  # fmt: skip

"""Pictures of a scan with what was found in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Image, Plane

Rgb = NDArray[np.uint8]

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""Okabe and Ito's colours without black, which colour-blind people tell apart; label k has entry k - 1."""

COLOURS = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in PALETTE)
"""The same as a page writes them."""


def to_display(scan: Image | Plane) -> Rgb:
    """An image or a plane as uint8 (H, W, 3); grey is repeated in the three channels."""
    grey = np.rint(scan.pixels * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else grey


def overlay(
    scan: Image | Plane,
    labels: NDArray[np.uint8] | NDArray[np.bool_],
    *,
    boxes: NDArray[np.floating] | None = None,
    names: Sequence[str] | None = None,
    opacity: float = 0.3,
) -> Rgb:
    """The scan with each label tinted and outlined, boxes drawn, and names listed in the upper left corner.

    Args:
        scan: an image, or a plane of a volume.
        labels: (H, W); 0 or False is background, k is drawn in the k-th colour of PALETTE (cyclic).
        boxes: (N, 4) as x0 y0 x1 y1 in pixels, end-exclusive; drawn white with a black rim.
        names: one for each label, from 1.
        opacity: of the tint; outlines are opaque.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the labels' shape is not the scan's.
    """
    # Here, because importing scipy takes longer than reading a scan.
    from scipy import ndimage

    if labels.shape != scan.shape:
        raise ValueError(f"the labels have shape {labels.shape}, expected the scan's {scan.shape}")
    picture = to_display(scan).astype(np.float32)
    line = max(1, round(min(scan.shape) / 256))
    for label in np.unique(labels[labels > 0]):
        region = labels == label
        colour = np.array(_colour(int(label)), np.float32)
        picture[region] = (1 - opacity) * picture[region] + opacity * colour
        # The outline lies inside the region, the image's border counting as outside.
        picture[region & ~ndimage.binary_erosion(region, iterations=line)] = colour
    image = Pillow.fromarray(np.rint(picture).astype(np.uint8))
    if boxes is not None:
        _draw_boxes(image, boxes, line)
    if names:
        _draw_names(image, names)
    return np.asarray(image).copy()


def saliency_overlay(scan: Image | Plane, saliency: FloatArray, *, opacity: float = 0.7) -> Rgb:
    """The scan under a heat map (matplotlib's inferno), which is the more opaque the more salient the place.

    Args:
        scan: an image, or a plane of a volume.
        saliency: (H, W) in [0, 1]; where it is 0 the scan is left as it is.
        opacity: of the heat map where the saliency is 1.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the saliency's shape is not the scan's.
    """
    from matplotlib import colormaps

    if saliency.shape != scan.shape:
        raise ValueError(f"the saliency has shape {saliency.shape}, expected the scan's {scan.shape}")
    strength = np.clip(saliency, 0, 1)
    heat = 255 * colormaps["inferno"](strength)[..., :3]
    cover = opacity * strength[..., None]
    blended: Rgb = np.rint((1 - cover) * to_display(scan) + cover * heat).astype(np.uint8)
    return blended


def _colour(label: int) -> tuple[int, int, int]:
    return PALETTE[(label - 1) % len(PALETTE)]


def _draw_boxes(image: Pillow.Image, boxes: NDArray[np.floating], line: int) -> None:
    draw = ImageDraw.Draw(image)
    for box in np.rint(boxes).astype(int):
        x0, y0, x1, y1 = (int(edge) for edge in box)
        if x1 <= x0 or y1 <= y0:
            continue
        # Pillow's rectangles include their last row and column.
        draw.rectangle((x0 - line, y0 - line, x1 - 1 + line, y1 - 1 + line), outline=(0, 0, 0), width=line)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 255, 255), width=line)


def _draw_names(image: Pillow.Image, names: Sequence[str]) -> None:
    draw = ImageDraw.Draw(image)
    size = max(9, round(min(image.size) / 24))
    font = ImageFont.load_default(size)
    for index, name in enumerate(names):
        place = (size / 2, size / 2 + 1.3 * size * index)
        draw.text(
            place,
            name,
            fill=_colour(index + 1),
            font=font,
            stroke_width=max(1, size // 9),
            stroke_fill=(0, 0, 0),
        )

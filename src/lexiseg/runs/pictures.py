"""Pictures of a scan with what was found in it."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lexiseg.io.pictures import overlay, to_display
from lexiseg.pipelines.results import Result, TargetResult
from lexiseg.proposals.proposal import Proposals
from lexiseg.values.scans import Image, Plane, Planes

_MOST_PLANES = 6
_COLUMNS = 3
_GOLDEN = 0.618033988749895


def overlay_picture(result: Result, planes: Planes) -> NDArray[np.uint8]:
    """The scan with its masks and boxes; of a volume a few planes side by side.

    Args:
        result: of the scan.
        planes: of the scan, as the result's pipeline saw them.

    Returns:
        uint8 (H, W, 3). The first plane shown carries the phrases and their presence.
    """
    labels = planes.cut(result.mask.labels)
    names = [_caption(target) for target in result.targets]
    pictures: list[NDArray[np.uint8]] = []
    for index in _shown(labels):
        boxes = [each.prompts[index].boxes for each in result.targets if len(each.prompts[index].boxes)]
        pictures.append(
            overlay(
                planes[index],
                labels[index],
                boxes=np.concatenate(boxes) if boxes else None,
                names=None if pictures else names,
            )
        )
    return _tiled(pictures)


def _caption(target: TargetResult) -> str:
    presence = "" if math.isnan(target.presence) else f" {target.presence:.2f}"
    return f"{target.phrase}{presence}" if target.present else f"{target.phrase}: {target.verdict}{presence}"


def _shown(labels: NDArray[np.uint8]) -> list[int]:
    """Planes spread over those with a mask; where none has one, over all."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    candidates = filled if len(filled) else np.arange(len(labels))
    picked = np.linspace(0, len(candidates) - 1, min(_MOST_PLANES, len(candidates)))
    return [int(index) for index in candidates[np.rint(picked).astype(int)]]


def _tiled(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = min(_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    pictures = pictures + [np.zeros_like(pictures[0])] * (rows * columns - len(pictures))
    return np.concatenate(
        [np.concatenate(pictures[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    )


def proposals_picture(scan: Image | Plane, proposals: Proposals, *, opacity: float = 0.35) -> NDArray[np.uint8]:
    """The scan with each region tinted in a colour of its own and outlined, small regions over large ones.

    Args:
        scan: an image.
        proposals: its regions; the colour tells the rank, best first.
        opacity: of the tint; outlines are opaque.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: the proposals are of another shape, or the scan is a volume.
    """
    if proposals.shape != scan.shape:
        raise ValueError(f"the proposals are of shape {proposals.shape}, expected the scan's {scan.shape}")
    picture = to_display(scan).astype(np.float32)
    line = max(1, round(min(scan.shape) / 256))
    ranked = sorted(enumerate(proposals), key=lambda each: -each[1].area)
    for rank, proposal in ranked:
        x0, y0, x1, y1 = proposal.box
        part, mask = picture[y0:y1, x0:x1], proposal.mask[y0:y1, x0:x1]
        part[mask] = (1 - opacity) * part[mask] + opacity * _colour(rank)
    for rank, proposal in ranked:
        x0, y0, x1, y1 = proposal.box
        mask = proposal.mask[y0:y1, x0:x1]
        # The outline lies inside the region; what is beyond the box counts as outside.
        picture[y0:y1, x0:x1][mask & ~ndimage.binary_erosion(mask, iterations=line)] = _colour(rank)
    return np.rint(picture).astype(np.uint8)


def _colour(rank: int) -> NDArray[np.float32]:
    """Hues a golden section apart never repeat, and neighbours in rank are far apart."""
    hue = (rank * _GOLDEN) % 1
    return np.array(colorsys.hsv_to_rgb(hue, 0.85, 1.0), np.float32) * 255

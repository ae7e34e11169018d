"""A picture of all proposals over their scan."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lexiseg.proposals.proposal import Proposals
from lexiseg.scans import Scan, to_display

_GOLDEN = 0.618033988749895


def proposals_picture(scan: Scan, proposals: Proposals, *, opacity: float = 0.35) -> NDArray[np.uint8]:
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

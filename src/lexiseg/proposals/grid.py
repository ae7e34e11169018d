"""Where the generator looks: crops of the scan, and a grid of points in each."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from lexiseg.scans.scan import FloatArray

Box = tuple[int, int, int, int]


def crop_boxes(shape: tuple[int, int], *, layers: int, overlap: float) -> tuple[tuple[Box, int], ...]:
    """The whole scan as layer 0, then layer i with 2^i by 2^i overlapping crops of equal size.

    Crops that a tiny scan leaves no pixel for, or that repeat an earlier one, are left out.

    Args:
        shape: (H, W) of the scan.
        layers: how many layers after the whole scan.
        overlap: of neighbouring crops, as a fraction of the scan's shorter side; layer i divides it by
            2^(i - 1).

    Returns:
        (x0, y0, x1, y1) in scan pixels, end-exclusive, each with its layer.
    """
    height, width = shape
    found: dict[Box, int] = {(0, 0, width, height): 0}
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(shape) * 2 / count)
        wide, high = (math.ceil((side + shared * (count - 1)) / count) for side in (width, height))
        for column, row in product(range(count), repeat=2):
            x0, y0 = column * (wide - shared), row * (high - shared)
            box = (x0, y0, min(x0 + wide, width), min(y0 + high, height))
            if x0 < box[2] and y0 < box[3]:
                found.setdefault(box, layer)
    return tuple(found.items())


def point_grid(shape: tuple[int, int], per_side: int) -> FloatArray:
    """The centres of `per_side` by `per_side` equal cells, taken for pixel indices, row by row.

    So they lie half a pixel to the lower right of the cells' centres.  It is how SAM's own generator asks,
    and half a pixel is enough to change which of two nearly equal masks is kept.

    Returns:
        float32 (per_side ** 2, 2): x y in pixels, a pixel's centre at +0.5.
    """
    height, width = shape
    centres = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(centres * width + 0.5, centres * height + 0.5)
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)

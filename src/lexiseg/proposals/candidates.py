"""Where a scan is asked for regions, and masks before they are brought to its grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from lexiseg.models.protocols import MaskGrid
from lexiseg.values.arrays import FloatArray

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


def corners(boxes: Sequence[Box]) -> Tensor:
    """Boxes from the first pixel's place to the last one's, float32 (N, 4).

    SAM's own generator compares these, a pixel smaller than end-exclusive boxes: for masks at the threshold
    the pixel decides.
    """
    return torch.tensor(boxes, dtype=torch.float32).view(-1, 4) - torch.tensor([0.0, 0.0, 1.0, 1.0])


def highest_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Each box's highest IoU with any of the others, (N,); 0 where there is no other, or no area."""
    if not len(others):
        return boxes.new_zeros(len(boxes))
    highest: Tensor = box_iou(boxes, others).nan_to_num(0.0).amax(1)
    return highest


def suppress(boxes: Sequence[Box], scores: Sequence[float], *, threshold: float) -> list[int]:
    """Box NMS: the positions of what is left, by falling score; of equal scores the earlier first."""
    kept: list[int] = nms(corners(boxes), torch.tensor(scores, dtype=torch.float32), threshold).tolist()
    return kept


_HALF_LIMIT = 6e4  # float16 ends at 65504


@dataclass(frozen=True, eq=False)
class Candidates:
    """K masks of one crop at the segmenter's low resolution.

    Attributes:
        logits: (K, h, w); float16, since many wait at once and only
            the places where they cross a threshold still matter.
        boxes: float32 (K, 4): x0 y0 x1 y1 in the crop's pixels, end-exclusive; see `low_boxes`.
        areas: float32 (K,) as a fraction of the crop; 0 is an empty mask.
        iou: float32 (K,) the segmenter's estimates.
        stability: float32 (K,); see `stability_score`.
        points: float32 (K, 2): x y in the crop's pixels, what was asked.
    """

    logits: Tensor
    boxes: Tensor
    areas: Tensor
    iou: Tensor
    stability: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: Tensor) -> Candidates:
        """Some of them: by positions, in that order, or by a bool for each."""
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))


def join(batches: Sequence[Candidates]) -> Candidates:
    """The candidates of several batches as one, in the same order."""
    columns = ([getattr(each, field.name) for each in batches] for field in fields(Candidates))
    return Candidates(*(torch.cat(column) for column in columns))


def measure(
    logits: Tensor, iou: Tensor, points: Tensor, *, shape: tuple[int, int], grid: MaskGrid, offset: float
) -> Candidates:
    """Candidates out of what a segmenter decoded.

    Args:
        logits: (K, h, w).
        iou: (K,).
        points: (K, 2).
        shape: (H, W) of the crop.
        grid: where the logits lie on it.
        offset: for `stability_score`.
    """
    seen = logits[:, : grid.shape[0], : grid.shape[1]]  # the rest is padding
    height, width = shape
    cell = torch.tensor(grid.cell * 2, dtype=torch.float32, device=logits.device)
    limit = torch.tensor([width, height, width, height], dtype=torch.float32, device=logits.device)
    return Candidates(
        logits=logits.clamp(-_HALF_LIMIT, _HALF_LIMIT).half(),
        boxes=(low_boxes(seen) * cell).clamp(min=torch.zeros_like(limit), max=limit),
        areas=(seen > 0).sum((1, 2)) / (seen.shape[1] * seen.shape[2]),
        iou=iou,
        stability=stability_score(seen, offset),
        points=points,
    )


def stability_score(logits: Tensor, offset: float) -> Tensor:
    """How little a mask depends on where its logits x are cut: ``|x > offset| / |x > -offset|``.

    It is the IoU of the two masks, one of which contains the other.  NaN where the larger one is empty.

    Args:
        logits: (K, h, w).
        offset: 0 or more.

    Returns:
        float32 (K,).
    """
    return (logits > offset).sum((1, 2)) / (logits > -offset).sum((1, 2))


def low_boxes(logits: Tensor) -> Tensor:
    """Boxes around the masks ``logits > 0``, to a fraction of a cell.

    Interpolated between a cell inside and its neighbour outside, the logits cross zero between the two
    centres; the box reaches to the outermost crossing, or to the grid's border.  So it tells what the box
    will be on a finer grid.

    Args:
        logits: (K, h, w).

    Returns:
        float32 (K, 4): x0 y0 x1 y1 in cells, a cell's centre at +0.5; zeros for an empty mask.
    """
    inside = logits > 0
    left, right = _reach(logits, inside.any(1))
    top, bottom = _reach(logits.mT, inside.any(2))
    boxes = torch.stack([left, top, right, bottom], dim=1)
    return torch.where(inside.any(2).any(1)[:, None], boxes, 0)


def _reach(logits: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """How far the masks reach to the left and right, from (K, h, w) and whether a column has any of it."""
    first = inside.int().argmax(1)
    last = logits.shape[2] - 1 - inside.flip(1).int().argmax(1)
    return first + 0.5 - _beyond(logits, first, -1), last + 0.5 + _beyond(logits, last, 1)


def _beyond(logits: Tensor, column: Tensor, step: int) -> Tensor:
    """How far past a column's centre, in cells, the logits stay above zero in any row."""
    each = torch.arange(len(logits), device=logits.device)
    outside = (column + step < 0) | (column + step >= logits.shape[2])
    inner = logits[each, :, column]
    outer = logits[each, :, (column + step).clamp(0, logits.shape[2] - 1)]
    crossing = torch.where(inner > 0, inner / (inner - outer), 0).amax(1)
    return torch.where(outside, 0.5, crossing)

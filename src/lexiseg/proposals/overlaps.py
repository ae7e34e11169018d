"""How much boxes overlap, and what is left when of two nearly equal ones the better stays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from lexiseg.proposals.grid import Box


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

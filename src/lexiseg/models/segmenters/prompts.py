"""What a segmenter is shown and asked, checked before anything is computed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lexiseg.values.arrays import FloatArray


def three_channels(pixels: FloatArray) -> Tensor:
    """A scan, (H, W) or (H, W, 3) in [0, 1], as float32 (3, H, W); grey is put in all three channels.

    Raises:
        ValueError: the array has another shape.

    Example:
        >>> three_channels(np.zeros((2, 5), np.float32)).shape
        torch.Size([3, 2, 5])
    """
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise ValueError(f"got pixels of shape {pixels.shape}, expected (H, W) or (H, W, 3)")
    colour = np.repeat(pixels[None], 3, axis=0) if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(colour, dtype=np.float32))


def check_prompts(boxes: np.ndarray | None, points: np.ndarray | None, labels: np.ndarray | None) -> int:
    """The number of prompts, of boxes (N, 4), points (N, P, 2) with labels (N, P), or both.

    Raises:
        ValueError: no prompt at all, or shapes that do not go together.

    Example:
        >>> check_prompts(np.zeros((3, 4)), None, None)
        3
    """
    if boxes is None and points is None:
        raise ValueError("got no prompt, expected boxes, points or both")
    if boxes is not None and (np.ndim(boxes) != 2 or np.shape(boxes)[1] != 4):
        raise ValueError(f"got boxes of shape {np.shape(boxes)}, expected (N, 4)")
    if (points is None) != (labels is None):
        raise ValueError("got points without labels or labels without points, expected both")
    if points is not None and labels is not None:
        if np.ndim(points) != 3 or np.shape(points)[2] != 2:
            raise ValueError(f"got points of shape {np.shape(points)}, expected (N, P, 2)")
        if np.shape(labels) != np.shape(points)[:2]:
            raise ValueError(f"got labels of shape {np.shape(labels)}, expected {np.shape(points)[:2]}")
    counts = {len(prompts) for prompts in (boxes, points) if prompts is not None}
    if len(counts) > 1:
        raise ValueError(f"got {min(counts)} and {max(counts)} prompts by boxes and by points, expected as many")
    return counts.pop()

"""A scan as SAM's published code hands it to its network: 8 bits, resized by Pillow, normalised, padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.nn.functional import pad


class PillowProcessor:
    """In place of a SamImageProcessor, where masks shall be those of the published code.

    Some outlines hang on the last grey level: in floats, resized by torch, one in ten masks of MobileSAM differs
    from the published one by more than 1 % of its area.

    Args:
        image_size: side S of the square input, in pixels.

    Example:
        >>> prepared = PillowProcessor(32)(images=torch.zeros(3, 10, 20))
        >>> tuple(prepared["pixel_values"].shape), prepared["reshaped_input_sizes"].tolist()
        ((1, 3, 32, 32), [[16, 32]])
    """

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self._mean, self._std = (
            255 * torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        )

    def __call__(self, images: Tensor, **_: Any) -> dict[str, Tensor]:
        """Prepare one scan.

        Args:
            images: float32 (3, H, W) in [0, 1].

        Returns:
            ``pixel_values`` float32 (1, 3, S, S), and ``reshaped_input_sizes`` int64 (1, 2): what of it the scan
            fills, from the first row and column on.
        """
        colour = np.rint(images.permute(1, 2, 0).numpy() * 255).clip(0, 255).astype(np.uint8)
        scale = self.image_size / max(colour.shape[:2])
        height, width = (max(1, int(side * scale + 0.5)) for side in colour.shape[:2])
        resized = Image.fromarray(colour).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
        square = pad((pixels - self._mean) / self._std, (0, self.image_size - width, 0, self.image_size - height))
        return {"pixel_values": square[None], "reshaped_input_sizes": torch.tensor([[height, width]])}

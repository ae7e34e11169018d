"""Changed copies of scans, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Augment:
    """Crops, moves, bends and recolours a scan with its labels, the same for the same seed.

    MONAI's random transforms: a crop (where scans are larger than the network's square), a mirror, rotation,
    shift, scale and shear, contrast, brightness, noise and blur. Only left and right are mirrored, and only
    where that is allowed: ultrasound has a top, and a phrase may name a side.

    Args:
        size: side of the crop.
        extent: side of the scans.
        flips: whether to mirror.
    """

    def __init__(self, *, size: int, extent: int, flips: bool) -> None:
        from monai.transforms import (
            Compose,
            RandAdjustContrastd,
            RandAffined,
            RandFlipd,
            RandGaussianNoised,
            RandGaussianSmoothd,
            RandScaleIntensityd,
            RandShiftIntensityd,
            RandSpatialCropd,
        )

        keys, shift = ("image", "label"), 0.1 * size
        steps: list[Any] = []
        if extent > size:
            steps.append(RandSpatialCropd(keys, roi_size=(size, size), random_size=False))
        if flips:
            steps.append(RandFlipd(keys, prob=0.5, spatial_axis=1))
        steps += [
            RandAffined(
                keys,
                prob=0.8,
                rotate_range=0.3,
                shear_range=0.1,
                translate_range=(shift, shift),
                scale_range=0.2,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandAdjustContrastd("image", prob=0.4, gamma=(0.6, 1.7)),
            RandScaleIntensityd("image", factors=0.2, prob=0.4),
            RandShiftIntensityd("image", offsets=0.2, prob=0.4),
            RandGaussianNoised("image", prob=0.3, std=0.15),
            RandGaussianSmoothd("image", sigma_x=(0.25, 1.2), sigma_y=(0.25, 1.2), prob=0.2),
        ]
        self._steps = Compose(steps)

    def __call__(self, image: Tensor, label: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Draw once.

        Args:
            image: float32 (C, E, E), normalised.
            label: uint8 (E, E).
            seed: of what is drawn.

        Returns:
            float32 (C, S, S) and uint8 (S, S).
        """
        self._steps.set_random_state(seed=seed)
        changed = self._steps({"image": image, "label": label[None].float()})
        return _plain(changed["image"]).float(), _plain(changed["label"])[0].round().to(torch.uint8)


def _plain(value: Any) -> Tensor:
    """Without MONAI's record of what was done to it."""
    tensor: Tensor = value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)
    return tensor

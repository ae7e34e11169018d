"""Which scans a step sees: a pure function of the seed and the step, so that a resumed run sees the same."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.training.students.frame import normalise
from lexiseg.training.students.samples import Samples
from lexiseg.values.arrays import FloatArray


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


@dataclass(frozen=True, eq=False)
class Batch:
    """B scans of a step.

    Attributes:
        images: float32 (B, C, S, S).
        labels: uint8 (B, S, S).
        weights: float32 (B,).
    """

    images: Tensor
    labels: Tensor
    weights: Tensor


class Batches:
    """Epochs in random order, one after the other without a gap.

    Args:
        samples: the set; only its training part is seen.
        weights: float32 (N,), of all samples.
        size: B.
        augment: what is done to each.
        seed: of the order and of what `augment` draws.
    """

    def __init__(self, samples: Samples, weights: FloatArray, *, size: int, augment: Augment, seed: int) -> None:
        self._samples, self._weights, self._size = samples, weights, size
        self._augment, self._seed = augment, seed
        self._places = np.flatnonzero(samples.train)
        self._epoch, self._order = -1, self._places

    @property
    def per_epoch(self) -> float:
        """Steps in which each scan is seen once."""
        return len(self._places) / self._size

    def at(self, step: int, labels: Tensor) -> Batch:
        """The batch of a step.

        Args:
            step: from 0.
            labels: uint8 (N, E, E), those of the samples or corrected ones.
        """
        images, maps, chosen = [], [], []
        for number in range(step * self._size, (step + 1) * self._size):
            place = self._place(number)
            image = normalise(self._samples.images[place][None].float() / 255)[0]
            seed = zlib.crc32(f"{self._seed}:{number}".encode())
            changed, label = self._augment(image, labels[place], seed=seed)
            images.append(changed)
            maps.append(label)
            chosen.append(place)
        weights = torch.from_numpy(self._weights[np.array(chosen)])
        return Batch(torch.stack(images), torch.stack(maps), weights)

    def _place(self, number: int) -> int:
        epoch, within = divmod(number, len(self._places))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        return int(self._order[within])

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self._seed, epoch)).permutation(self._places)

"""Which scans a step sees: a pure function of the seed and the step, so that a resumed run sees the same."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.learning.weak.augment import Augment
from lexiseg.learning.weak.frame import normalise
from lexiseg.learning.weak.samples import Samples
from lexiseg.scans import FloatArray


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

    def __init__(
        self, samples: Samples, weights: FloatArray, *, size: int, augment: Augment, seed: int
    ) -> None:
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

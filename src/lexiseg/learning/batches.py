"""Which pairs are compared at which step, and how they are shown: functions of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.datasets.pairs import Pair
from lexiseg.learning.augment import augment
from lexiseg.learning.losses import identity, true_negatives
from lexiseg.learning.pixels import PixelStore
from lexiseg.learning.settings import FinetuneSettings

Indices = NDArray[np.int64]
_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process works on at one step.

    Attributes:
        step: counted from 0 over all epochs.
        pixels: float32 (b, 3, S, S) in [0, 1], this process's share of the batch.
        tokens: int64 (b, L).
        negatives: bool (B, B) of the whole batch; None where no pair is masked.
    """

    step: int
    pixels: Tensor
    tokens: Tensor
    negatives: Tensor | None


class Batches:
    """The training pairs in their order.

    Args:
        pairs: to train on.
        store: their images.
        tokens: int64 (N, L), their captions.
        fill: float32 (3, 1, 1), the colour around images.
        settings: `batch`, `seed`, `augment` and `mask_duplicates` count.
        padding: the token that a text tower masks out, where it does; columns full of it are cut off.
        rank: this process.
        world: how many processes there are.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        store: PixelStore,
        tokens: Tensor,
        fill: Tensor,
        settings: FinetuneSettings,
        *,
        padding: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._pairs, self._store, self._tokens, self._fill = pairs, store, tokens, fill.cpu()
        self._settings, self._padding, self._rank, self._world = settings, padding, rank, world
        self.size = min(settings.batch, len(pairs)) // world * world
        self._captions = identity([pair.text for pair in pairs])
        self._images = identity([str(pair.image) for pair in pairs])

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch; pairs that do not fill a batch wait for the next."""
        return len(self._pairs) // self.size

    def plan(self, epoch: int) -> list[Indices]:
        """The pairs of each of an epoch's batches, for all processes together."""
        order = np.random.default_rng([self._settings.seed, 1, epoch]).permutation(len(self._pairs))
        return [order[start : start + self.size] for start in self._starts()]

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """An epoch's batches, made ahead of time in another thread."""
        first = epoch * self.per_epoch
        with ThreadPoolExecutor(1) as pool:
            plans = enumerate(self.plan(epoch), start=first)
            waiting: list[Future[Batch]] = []
            for step, chosen in plans:
                waiting.append(pool.submit(self.load, step, epoch, chosen))
                if len(waiting) > _AHEAD:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def load(self, step: int, epoch: int, chosen: Indices) -> Batch:
        """This process's share of a batch."""
        share = self.size // self._world
        own = chosen[self._rank * share : (self._rank + 1) * share]
        pairs = [self._pairs[index] for index in own]
        pixels = self._store.batch([pair.image for pair in pairs], self._fill)
        if self._settings.augment:
            seeds = [[self._settings.seed, 2, epoch, int(index)] for index in own]
            pixels = augment(pixels, [pair.text for pair in pairs], seeds, self._fill)
        tokens = self._tokens[own]
        if self._padding is not None:
            used = (tokens != self._padding).any(dim=0).nonzero()
            tokens = tokens[:, : int(used.max()) + 1]
        negatives = None
        if self._settings.mask_duplicates:
            negatives = true_negatives(self._captions[chosen], self._images[chosen])
        return Batch(step, pixels.to(memory_format=torch.channels_last), tokens, negatives)

    def _starts(self) -> range:
        return range(0, self.per_epoch * self.size, self.size)

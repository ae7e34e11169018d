"""Which pairs are compared at which step, and how they are shown: functions of the seed and the step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lexiseg.datasets.pairs.pairs import Pair
from lexiseg.training.finetuning.data import PixelStore
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.training.losses import identity, true_negatives

Indices = NDArray[np.int64]
_AHEAD = 2

# A mirrored image of anything that has sides, an order, or a writing on it would make these untrue.
_SIDES = re.compile(
    r"\b(left|right|l|r|lt|rt|(left|right)(ward|wards|most|sided?)|sinist\w*|dext\w*|lev\w*|situs\w*|"
    r"(anti|counter)?[- ]?clockwise|o['’]?clock|ipsilateral\w*|contralateral\w*|[lr][ul]l|rml|[lr][ul]q|"
    r"[lr]v|[lr]a|[lr](ca|mca|ad|cx))\b",
    re.IGNORECASE,
)
# Organs that lie on one side: mirrored they would be a rare anomaly that no caption mentions.
_ONE_SIDED = re.compile(
    r"\b(chest|thora\w*|heart|cardiac|lungs?|pulmon\w*|liver|hepat\w*|spleen|splen\w*|stomach|gastric|"
    r"append\w*|gallbladder|abdom\w*|aort\w*|caval?|colon\w*|pancrea\w*)\b",
    re.IGNORECASE,
)
_PLACES = re.compile(
    r"\b(upper|lower|central|cent(er|re)|middle|mid|top|bottom|quadrant\w*|corner|edge|border|margins?|"
    r"superior\w*|inferior\w*|lateral\w*|medial\w*)\b",
    re.IGNORECASE,
)
_SIZES = re.compile(
    r"\b(small\w*|large\w*|medium|big\w*|tiny|huge|enlarged|narrow\w*|wide\w*|tall\w*|"
    r"\d+([.,]\d+)?\s*(mm|cm|millimet\w*|centimet\w*))\b",
    re.IGNORECASE,
)
_TURNS = re.compile(r"\b(horizontal\w*|vertical\w*|oblique\w*|taller|wider)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Freedom:
    """How far an image may be changed.

    Attributes:
        flip: whether it may be mirrored.
        shift: of the image's side, to either side.
        zoom: largest factor, up or down, as a logarithm.
        turn: radians, to either side.
    """

    flip: bool
    shift: float
    zoom: float
    turn: float


def freedom(caption: str) -> Freedom:
    """What a caption allows.

    A caption that names a side, or an organ that lies on one, forbids mirroring; one that names a place
    allows hardly a shift, one that names a size hardly a zoom, one that names an orientation hardly a turn.
    """
    sided, placed = bool(_SIDES.search(caption)), bool(_PLACES.search(caption))
    return Freedom(
        flip=not sided and not _ONE_SIDED.search(caption),
        shift=0.02 if sided or placed else 0.08,
        zoom=math.log(1.03) if _SIZES.search(caption) else math.log(1.15),
        turn=math.radians(3 if _TURNS.search(caption) else 10),
    )


def augment(pixels: Tensor, captions: Sequence[str], seeds: Sequence[Sequence[int]], fill: Tensor) -> Tensor:
    """Images, each changed as far as its caption allows.

    Geometry is one affine resampling; grey levels change monotonically (gain and gamma, not their order), so
    that "hyperintense" stays true, and get some noise.

    Args:
        pixels: float32 (B, 3, S, S) in [0, 1], on any device.
        captions: (B,).
        seeds: (B,) each image's own seed: its change does not depend on the batch that it is in.
        fill: float32 (3, 1, 1), what is outside the image.

    Returns:
        float32 (B, 3, S, S) in [0, 1].
    """
    draws = [np.random.default_rng(seed).random(8) for seed in seeds]
    matrices = np.stack([_matrix(freedom(text), draw) for text, draw in zip(captions, draws, strict=True)])
    theta = torch.from_numpy(matrices).to(pixels)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    outside = fill.to(pixels)
    moved = functional.grid_sample(pixels - outside, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    levels = torch.from_numpy(np.array([draw[5:] for draw in draws])).to(pixels)[:, :, None, None, None]
    gamma, gain = (0.5 * (levels[:, 0] - 0.5)).exp(), 1 + 0.3 * (levels[:, 1] - 0.5)
    changed = ((moved + outside).clamp(1e-4, 1) ** gamma * gain).clamp(0, 1)
    # The padding stays what the encoder takes for nothing.
    inside = functional.grid_sample(
        (pixels != outside).any(dim=1, keepdim=True).to(pixels), grid, mode="nearest", align_corners=False
    )
    return torch.where(inside > 0, changed, outside)


def _matrix(allowed: Freedom, draw: np.ndarray) -> np.ndarray:
    """Affine map (2, 3) from output to input, in coordinates from -1 to 1."""
    spread = 2 * draw - 1
    angle, scale = spread[0] * allowed.turn, math.exp(spread[1] * allowed.zoom)
    mirror = -1.0 if allowed.flip and draw[4] < 0.5 else 1.0
    cosine, sine = math.cos(angle) * scale, math.sin(angle) * scale
    shift = 2 * allowed.shift * spread[2:4]
    return np.array([[mirror * cosine, -sine, shift[0]], [mirror * sine, cosine, shift[1]]])


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

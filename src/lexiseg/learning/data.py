"""Pairs made ready for training: read, split, their images in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.pairs import Pair, PairSet, SkippedPair, split_pairs
from lexiseg.errors import BadManifest
from lexiseg.learning.pixels import PixelStore
from lexiseg.learning.settings import FinetuneSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a run is fed with.

    Attributes:
        train: pairs to learn from.
        validation: pairs to measure with.
        skipped: what could not be used.
        store: the images of both.
        digest: of all captions, file names and parts, so that a continuation is known to have the same.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    skipped: tuple[SkippedPair, ...]
    store: PixelStore
    digest: str


def readable(
    found: PairSet, size: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[PairSet, PixelStore]:
    """Read all images, and leave out the pairs whose image cannot be read.

    Args:
        found: pairs.
        size: side of the encoder's input.
        progress: told (images read, in all).

    Raises:
        BadManifest: fewer than two pairs are left.
    """
    store, bad = PixelStore.read([pair.image for pair in found.pairs], size, progress=progress)
    pairs = tuple(pair for pair in found.pairs if pair.image not in bad)
    skipped = (*found.skipped, *(SkippedPair(path.name, reason) for path, reason in bad.items()))
    for each in skipped:
        logger.warning("%s is left out: %s", each.where, each.reason)
    if len(pairs) < 2:
        raise BadManifest(f"{len(pairs)} pairs have an image that can be read, expected at least 2")
    return PairSet(pairs, skipped), store


def training_data(
    found: PairSet,
    size: int,
    settings: FinetuneSettings,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingData:
    """Read all images and split the pairs.

    Args:
        found: pairs.
        size: side of the encoder's input.
        settings: `validation` and `seed` count.
        progress: told (images read, in all).

    Raises:
        BadManifest: fewer than two pairs have a readable image.
        UsageError: the pairs cannot be split.
    """
    kept, store = readable(found, size, progress=progress)
    train, validation = split_pairs(kept.pairs, validation=settings.validation, seed=settings.seed)
    return TrainingData(
        tuple(train), tuple(validation), kept.skipped, store, _digest(train) + _digest(validation)
    )


def _digest(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update("\0".join((Path(pair.image).name, pair.text, pair.group, "")).encode(errors="replace"))
    return digest.hexdigest()[:16]

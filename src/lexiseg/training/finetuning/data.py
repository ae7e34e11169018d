"""Pairs made ready for training: read, split, their images in memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.datasets.pairs.pairs import Pair, PairSet, SkippedPair, split_pairs
from lexiseg.errors import BadManifest, UnreadableScan
from lexiseg.io.read import read_scan
from lexiseg.saliency.framing import frame_scan
from lexiseg.training.finetuning.settings import FinetuneSettings
from lexiseg.values.scans import Volume

logger = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]
_THREADS = 4


@dataclass(frozen=True, eq=False)
class PixelStore:
    """Scans as the encoder will see them: letterboxed, aspect kept, as `segment` frames them.

    Attributes:
        size: side S of the encoder's input.
        kept: by path, uint8 (h, w) or (h, w, 3), the longer side S.
        limit: bytes that are kept at most; what is beyond is read from disk each time.
    """

    size: int
    kept: dict[Path, Bytes]
    limit: int = 4 << 30

    @classmethod
    def read(
        cls,
        paths: Sequence[Path],
        size: int,
        *,
        limit: int = 4 << 30,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[PixelStore, dict[Path, str]]:
        """Read every image once, so that a bad file is known before training begins.

        Args:
            paths: images, maybe repeated.
            size: side S of the encoder's input.
            limit: bytes to keep.
            progress: told (images done, images in all).

        Returns:
            The store, and why each image that cannot be used cannot.
        """
        store = cls(size, {}, limit)
        unique, room, bad = list(dict.fromkeys(paths)), limit, {}
        with ThreadPoolExecutor(_THREADS) as pool:
            for done, (path, found) in enumerate(zip(unique, pool.map(store._tried, unique), strict=True), start=1):
                if isinstance(found, str):
                    bad[path] = found
                elif found.nbytes <= room:
                    store.kept[path] = found
                    room -= found.nbytes
                if progress is not None:
                    progress(done, len(unique))
        return store, bad

    def batch(self, paths: Sequence[Path], fill: Tensor) -> Tensor:
        """Images in their squares.

        Args:
            paths: B images.
            fill: float32 (3, 1, 1), the colour around them: the encoder's mean.

        Returns:
            float32 (B, 3, S, S) in [0, 1], on the CPU.
        """
        square = fill.expand(3, self.size, self.size).repeat(len(paths), 1, 1, 1)
        for canvas, path in zip(square, paths, strict=True):
            content = self.kept.get(path)
            if content is None:
                content = self._content(path)
            height, width = content.shape[:2]
            top, left = (self.size - height) // 2, (self.size - width) // 2
            planes = torch.from_numpy(content.reshape(height, width, -1)).permute(2, 0, 1)
            canvas[:, top : top + height, left : left + width] = planes.float() / 255
        return square

    def _tried(self, path: Path) -> Bytes | str:
        try:
            return self._content(path)
        except UnreadableScan as error:
            return str(error).removeprefix(f"{path}: ")

    def _content(self, path: Path) -> Bytes:
        scan = read_scan(path)
        if isinstance(scan, Volume):
            raise UnreadableScan(f"{path}: it is a volume; expected an image")
        shown = scan.planes()[0].pixels
        frame = frame_scan((shown.shape[0], shown.shape[1]), size=self.size)[0]
        place = frame.place
        inside = frame.apply(shown)[0, :, place.top : place.top + place.height, place.left : place.left + place.width]
        content = (inside * 255).round().to(torch.uint8)
        planes = content[:1] if shown.ndim == 2 else content
        return np.ascontiguousarray(planes.permute(1, 2, 0).squeeze(-1).numpy())


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a run is fed with.

    Attributes:
        train: pairs to learn from.
        validation: pairs to measure with.
        skipped: what could not be used.
        store: the images of both.
        digest: of all captions, images and parts, so that a continuation is known to have the same.
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
    digest = _digest(train, store) + _digest(validation, store)
    return TrainingData(tuple(train), tuple(validation), kept.skipped, store, digest)


def _digest(pairs: Sequence[Pair], store: PixelStore) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update("\0".join((Path(pair.image).name, pair.text, pair.group, "")).encode(errors="replace"))
        content = store.kept.get(pair.image)
        # Of what is too much for memory, the file's size alone.
        digest.update(str(pair.image.stat().st_size).encode() if content is None else content.tobytes())
    return digest.hexdigest()[:16]

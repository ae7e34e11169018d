"""Images of pairs, read once and kept small, put into an encoder's square on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.errors import UnreadableScan
from lexiseg.saliency.framing import frame_scan
from lexiseg.scans import read_scan

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
            for done, (path, found) in enumerate(
                zip(unique, pool.map(store._tried, unique), strict=True), start=1
            ):
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
        if scan.volume:
            raise UnreadableScan(f"{path}: it is a volume; expected an image")
        frame = frame_scan(scan.shape, size=self.size)[0]  # type: ignore[arg-type]
        place = frame.place
        inside = frame.apply(scan.pixels)[
            0, :, place.top : place.top + place.height, place.left : place.left + place.width
        ]
        content = (inside * 255).round().to(torch.uint8)
        planes = content[:1] if scan.pixels.ndim == 2 else content
        return np.ascontiguousarray(planes.permute(1, 2, 0).squeeze(-1).numpy())

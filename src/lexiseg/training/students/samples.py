"""Scans and their labels in memory, in the network's square."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.datasets.label_maps import read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import NoLabels, UnreadableScan
from lexiseg.io.names import printable
from lexiseg.io.read import read_scan
from lexiseg.training.students.frame import Frame
from lexiseg.training.students.labels import TRAIN, LabelSet
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """N scans of a set; a scan of 256 pixels takes 128 kB.

    Attributes:
        images: uint8 (N, C, S, S), C = 1, or 3 where any scan is coloured.
        labels: uint8 (N, S, S).
        weights: float32 (N,).
        rows: what they are of.
        train: bool (N,), False for scans that only say when to stop.
        failed: scans that could not be read.
    """

    images: Tensor
    labels: Tensor
    weights: FloatArray
    rows: tuple[ManifestRow, ...]
    train: NDArray[np.bool_]
    failed: int = 0

    @property
    def channels(self) -> int:
        """Of the images."""
        return int(self.images.shape[1])

    def digest(self) -> str:
        """A sha256 of all that training depends on."""
        found = hashlib.sha256(self.images.numpy().tobytes())
        for part in (self.labels.numpy(), self.weights, self.train):
            found.update(part.tobytes())
        return found.hexdigest()


def load_samples(labels: LabelSet, *, extent: int, progress: Callable[[int, int], None] | None = None) -> Samples:
    """Read a set's scans and masks.

    A scan that cannot be read is left out with a warning.

    Args:
        labels: the set.
        extent: S, the side of the square, in pixels.
        progress: is told how many scans of how many are read.

    Raises:
        NoLabels: no scan can be read, or no training scan shows one of the targets.
    """
    images, maps, rows, problem = [], [], [], ""
    for done, row in enumerate(labels.rows, start=1):
        try:
            image, label_map = _read(row, len(labels.names), extent)
        except UnreadableScan as error:
            problem = str(error)
            logger.warning("left out: %s", problem)
        else:
            images.append(image)
            maps.append(label_map)
            rows.append(row)
        if progress is not None:
            progress(done, len(labels.rows))
    if not images:
        raise NoLabels(f"none of the {len(labels.rows)} scans can be read; the first problem: {problem}")
    channels = max(image.shape[0] for image in images)
    train = np.array([row.extra["split"] == TRAIN for row in rows])
    stacked = torch.stack(maps)
    _refuse_unseen(stacked[torch.from_numpy(train)], labels.names)
    _tell_held_out(stacked[torch.from_numpy(~train)], labels)
    return Samples(
        images=torch.stack([image.expand(channels, -1, -1) for image in images]),
        labels=stacked,
        weights=np.array([float(row.extra["weight"]) for row in rows], np.float32),
        rows=tuple(rows),
        train=train,
        failed=len(labels.rows) - len(rows),
    )


def _read(row: ManifestRow, targets: int, extent: int) -> tuple[Tensor, Tensor]:
    if row.mask is None:
        raise UnreadableScan(f"{printable(row.id)}: it has no mask")
    scan = read_scan(row.image, id=row.id)
    if isinstance(scan, Volume):
        raise UnreadableScan(f"{printable(row.id)}: it is a volume; expected an image (slices of one)")
    planes = scan.planes()
    shown = planes[0].pixels
    labels = planes.cut(read_labels(row.mask, targets=targets, shape=scan.shape))[0]
    frame = Frame(shown.shape[0], shown.shape[1], extent)
    pixels = frame.put(shown, channels=3 if shown.ndim == 3 else 1)
    return (pixels * 255).round().to(torch.uint8), frame.put_labels(labels)


def _refuse_unseen(labels: Tensor, names: Sequence[str]) -> None:
    seen = set(np.unique(labels.numpy()).tolist())
    missing = [name for k, name in enumerate(names, start=1) if k not in seen]
    if missing:
        raise NoLabels(
            f"none of the {len(labels)} training scans shows {printable(missing[0])!r}: there is nothing to "
            "learn; try another phrase or more scans"
        )


def _tell_held_out(read: Tensor, labels: LabelSet) -> None:
    """A line where the held-out scans, as they were read, say nothing of the target."""
    if bool(read.any()) or all(row.extra["split"] == TRAIN for row in labels.rows):
        return
    what = f"none of the {len(read)} held-out scans shows a target" if len(read) else "no held-out scan could be read"
    logger.warning("%s: nothing tells when the training is at its best", what)

"""What a teacher thinks of a scan before it cuts a mask: probabilities beside the pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id
from lexiseg.pipelines.results import Result
from lexiseg.training.students.folder import remove_file
from lexiseg.training.students.labels import RECORD
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Scan

SOFT = "probabilities"
"""The folder of a set, beside images/ and masks/."""


class SoftTeacher:
    """A pipeline that also leaves the probabilities of images in a set's folder.

    A mask says less than what it was cut from: where the teacher hesitates, and between what. Source: G. Hinton,
    O. Vinyals, J. Dean, Distilling the knowledge in a neural network, arXiv 1503.02531. Of a volume the masks alone
    are learnt, whose probabilities would be its size many times over.

    Args:
        pipeline: any; everything else is its own.
        folder: of the set.
    """

    def __init__(self, pipeline: Any, folder: Path) -> None:
        self._pipeline, self._folder = pipeline, folder / SOFT

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def __call__(self, scan: Scan, phrases: Sequence[str], **more: Any) -> Result:
        """The pipeline's answer; its probabilities are on the disk when it returns.

        From the first call on the folder is no finished set, until its record is written again.

        Raises:
            UnwritableResult: the file system refused.
        """
        remove_file(self._folder.parent / RECORD)
        found: Result = self._pipeline(scan, phrases, **more)
        maps = [each.probability for each in found.targets]
        known = [each for each in maps if each is not None]
        if known and len(known) == len(maps) and known[0].ndim == 2:
            # As the set's images are: upright.
            write_soft(self._folder.parent, scan.id, np.stack([scan.planes().cut(each)[0] for each in known]))
        return found


def soft_path(folder: Path, id: str) -> Path:
    """Where a set keeps the probabilities of a scan."""
    return folder / SOFT / f"{safe_id(id)}.npz"


def write_soft(folder: Path, id: str, probabilities: FloatArray) -> Path:
    """Write a scan's probabilities (K, H, W), in 8 bits.

    Raises:
        UnwritableResult: the file system refused.
    """
    path = soft_path(folder, id)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.rint(np.clip(probabilities, 0, 1) * 255).astype(np.uint8)
    return atomic_write(path, lambda file: np.savez_compressed(file, probabilities=values))


def read_soft(row: ManifestRow) -> NDArray[np.float32] | None:
    """The probabilities float32 (K, H, W) of a set's row; None where the teacher left none.

    Raises:
        UnreadableScan: the file is damaged.
    """
    path = soft_path(row.image.parent.parent, row.id)
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:
            return np.asarray(stored["probabilities"], np.float32) / np.float32(255)
    except (OSError, ValueError, KeyError) as error:
        raise UnreadableScan(f"{printable(row.id)}: its probabilities cannot be read; label it again") from error

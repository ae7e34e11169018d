"""Which file of a folder is the prediction of an id: by name, never by order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.scans import printable, safe_id

_SUFFIXES = (".png", ".nii.gz", ".nii", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class PredictionFolder:
    """A system's files: what `lexiseg segment` writes, or NAME.png, NAME.nii.gz and the like of another.

    Attributes:
        path: the folder.
        names: of the files in it.
    """

    path: Path
    names: frozenset[str]

    @classmethod
    def open(cls, path: str | Path) -> PredictionFolder:
        """List a folder; what lies deeper is not looked at.

        Raises:
            UsageError: there is no such folder, or it may not be read.
        """
        path = Path(path)
        label = printable(str(path))
        if not path.is_dir():
            raise UsageError(f"{label}: no such folder; expected one with predictions")
        try:
            return cls(path, frozenset(os.listdir(path)))  # noqa: PTH208  (names alone)
        except OSError as error:
            raise UsageError(f"{label}: the folder cannot be read ({error.strerror})") from error

    def mask(self, id: str) -> Path | None:
        """NAME_mask.*, or else NAME.*, of an id; None where there is neither.

        Raises:
            UnreadableScan: there are two of them; one line.
        """
        return self._one(f"{safe_id(id)}_mask") or self._one(safe_id(id))

    def labels(self, id: str) -> Path | None:
        """Where the masks of several phrases are told apart: NAME_labels.png, or a volume's NAME_mask.*."""
        return self._one(f"{safe_id(id)}_labels") or self._one(f"{safe_id(id)}_mask")

    def saliency(self, id: str) -> Path | None:
        """NAME_saliency.*, which `lexiseg segment --save-stages` writes where one phrase is asked."""
        return self._one(f"{safe_id(id)}_saliency")

    def others(self, ids: Iterable[str]) -> list[str]:
        """Names of masks that belong to none of the ids, sorted."""
        wanted = {safe_id(each) + "_mask" for each in ids}
        found = []
        for name in self.names:
            stem = next((name[: -len(suffix)] for suffix in _SUFFIXES if name.endswith(suffix)), "")
            if stem.endswith("_mask") and stem not in wanted:
                found.append(name)
        return sorted(found)

    def _one(self, stem: str) -> Path | None:
        found = [stem + suffix for suffix in _SUFFIXES if stem + suffix in self.names]
        if len(found) > 1:
            raise UnreadableScan(
                f"{printable(found[0])} and {printable(found[1])} are both there; expected one of them"
            )
        return self.path / found[0] if found else None


def system_names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder of predictions: the last parts of its path, as many as tell it from the others.

    Raises:
        UsageError: a folder is given twice.
    """
    places = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  (resolve() follows links)
    for k, place in enumerate(places):
        if place in places[:k]:
            raise UsageError(f"{printable(str(folders[k]))}: it is given twice; name each system once")
    for depth in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            break
    return [printable(name) for name in names]

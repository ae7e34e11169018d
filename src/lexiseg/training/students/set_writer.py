"""One labelled scan as images and masks of a set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lexiseg.datasets.label_maps import read_labels
from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UsageError
from lexiseg.files import atomic_write, sha256_of
from lexiseg.io.dicom.headers import patient_of
from lexiseg.io.names import printable, safe_id
from lexiseg.io.sources import read_source
from lexiseg.runs.items import RunItem
from lexiseg.runs.masks import mask_stem
from lexiseg.runs.table import Row
from lexiseg.training.students.corrected import WRITTEN
from lexiseg.values.scans import Image, Plane, Scan, Volume


@dataclass(frozen=True, eq=False)
class Kept:
    """An image of the set.

    Attributes:
        row: of its manifest.
        empty: whether its mask is.
        corrected: whether its mask is a person's.
    """

    row: ManifestRow
    empty: bool
    corrected: bool = False

    def in_part(self, part: str) -> ManifestRow:
        """The row with its part of the split, as the last column."""
        extra = {name: value for name, value in self.row.extra.items() if name != "split"}
        return replace(self.row, extra={**extra, "split": part})


class SetWriter:
    """Writes scans and masks as 8-bit PNG, each file in one step.

    Args:
        folder: of the set.
        names: of the targets.
        teacher: the folder of the run that labelled the scans.
        corrected: rows of an earlier set whose masks a person corrected, by the masks' names; those stay.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], *, teacher: Path, corrected: Mapping[str, ManifestRow] | None = None
    ) -> None:
        self._folder, self._names, self._teacher = folder, tuple(names), teacher
        self._corrected = corrected or {}
        # Never written: a group has the name of a scan.
        self._patients: dict[str, str] = {}
        self._origins: dict[str, tuple[RunItem, int]] = {}
        self._read: tuple[str, list[NDArray[np.bool_]]] = ("", [])

    def write(self, item: RunItem, source: ManifestRow | None, results: Sequence[Row], weight: float) -> list[Kept]:
        """Write one scan: an image, or of a volume its slices.

        Of a volume all slices with a mask are kept, and as many of the others, evenly spread: a student
        should see them too, but a volume is mostly others. Constant slices show nothing and are left out.

        Args:
            item: the scan.
            source: its row in the manifest that it came from.
            results: its rows in results.csv.
            weight: how much it counts.

        Raises:
            UnreadableScan: it or its mask cannot be read any more.
            UsageError: its mask was corrected on another image than it is now.
            UnwritableResult: the file system refused.
        """
        scan = read_source(item.source, id=item.id)
        labels = self._labels(item, scan)
        extra = {
            "weight": f"{weight:.4f}",
            "presence": ";".join(row.presence for row in results),
            "confidence": ";".join(row.confidence for row in results),
            "split": source.extra.get("split", "") if source is not None else "",
        }
        base = ManifestRow(
            id=item.id,
            image=item.path,
            text="; ".join(self._names),
            group=self._group(item, source, scan),
            label=source.label if source is not None else "",
            extra=extra,
        )
        kept = []
        for plane, mask in _planes(scan, labels):
            if isinstance(scan, Volume):
                extra = {**extra, "presence": _of_slice([row.presence for row in results], mask)}
            kept.append(self._write(replace(base, extra=extra), plane.id, plane.pixels, mask))
            if not kept[-1].corrected:
                self._origins[plane.id] = item, plane.index
        return kept

    def own_masks(self, row: ManifestRow) -> Mapping[int, NDArray[np.bool_]] | None:
        """Each target's own mask of a row that was written, whole where they overlap; None of a corrected one.

        Raises:
            UnreadableScan: it cannot be read any more.
        """
        if row.id not in self._origins:
            return None
        item, index = self._origins[row.id]
        if self._read[0] != item.id:
            scan = read_source(item.source, id=item.id)
            planes = scan.planes()
            stems = [mask_stem(item.name, self._names, name) for name in self._names]
            self._read = item.id, [planes.cut(self._mask(stem, scan, targets=1) > 0) for stem in stems]
        return {number: masks[index] for number, masks in enumerate(self._read[1], start=1)}

    def _group(self, item: RunItem, source: ManifestRow | None, scan: Scan) -> str:
        """The manifest's group; else, of DICOM files of one patient, what the first of them is called."""
        known = source.group if source is not None else ""
        if patient := patient_of(scan):
            first = self._patients.setdefault(patient, known or item.id)
            return known or first
        return known or (item.id if isinstance(scan, Volume) else "")

    def _labels(self, item: RunItem, scan: Scan) -> NDArray[np.uint8]:
        kind = "labels" if len(self._names) > 1 and isinstance(scan, Image) else "mask"
        return self._mask(f"{item.name}_{kind}", scan, targets=len(self._names))

    def _mask(self, stem: str, scan: Scan, *, targets: int) -> NDArray[np.uint8]:
        path = self._teacher / f"{stem}{'.png' if isinstance(scan, Image) else '.nii.gz'}"
        return read_labels(path, targets=targets, shape=scan.shape)

    def _write(self, base: ManifestRow, name: str, pixels: NDArray[np.float32], labels: NDArray[np.uint8]) -> Kept:
        file_name = f"{safe_id(name)}.png"
        grey = np.rint(pixels * 255).astype(np.uint8)
        shown = labels if len(self._names) > 1 else labels * np.uint8(255)
        place = self._folder / "masks" / file_name
        before = self._corrected.get(file_name)
        corrected = before is not None and not _is(place, shown)
        if corrected and not _is(self._folder / "images" / file_name, grey):
            raise UsageError(
                f"{printable(str(place))}: it was corrected, and its scan is another since; move it away and --resume"
            )
        image = self._png(grey, self._folder / "images" / file_name)
        mask = place if corrected else self._png(shown, place)
        if before is not None and corrected:
            labels, written = read_labels(mask, targets=len(self._names), shape=labels.shape), before.extra[WRITTEN]
        else:
            written = sha256_of(mask)
        row = replace(base, id=name, image=image, mask=mask, extra={**base.extra, WRITTEN: written})
        return Kept(row, empty=not labels.any(), corrected=corrected)

    def _png(self, values: NDArray[np.uint8], path: Path) -> Path:
        return atomic_write(path, lambda file: Pillow.fromarray(values).save(file, format="PNG"))


def _is(path: Path, values: NDArray[np.uint8]) -> bool:
    """Whether a file holds these values."""
    with suppress(OSError), Pillow.open(path) as stored:
        return np.array_equal(np.asarray(stored), values)
    return False


def _of_slice(presence: Sequence[str], labels: NDArray[np.uint8]) -> str:
    """A volume's presence of each target, of a slice: that of its surest slice is not that of one without a mask."""
    return ";".join(said if (labels == k).any() else "" for k, said in enumerate(presence, 1))


def _planes(scan: Scan, labels: NDArray[np.uint8]) -> Iterator[tuple[Plane, NDArray[np.uint8]]]:
    planes = scan.planes()
    masks = planes.cut(labels)
    if isinstance(scan, Image):
        yield planes[0], np.ascontiguousarray(masks[0])
        return
    shown = [plane.index for plane in planes if np.ptp(np.rint(plane.pixels * 255)) > 0]
    filled = [k for k in shown if masks[k].any()]
    others = [k for k in shown if not masks[k].any()]
    count = min(len(others), max(1, len(filled)))
    spread = np.rint(np.linspace(0, len(others) - 1, count)).astype(int).tolist() if others else []
    for k in sorted({*filled, *(others[j] for j in spread)}):
        yield planes[k], np.ascontiguousarray(masks[k])

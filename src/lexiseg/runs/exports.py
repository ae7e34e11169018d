"""Files of all scans of a run together: COCO's annotations, nnU-Net's data sets. They are written at its end."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lexiseg.datasets.exports import DATASET, VOLUMES, Example, write_coco, write_nnunet
from lexiseg.errors import LexisegError, UnwritableResult
from lexiseg.io.masks import read_mask
from lexiseg.io.names import printable, slugs
from lexiseg.runs import ledger
from lexiseg.runs.items import RunItem
from lexiseg.runs.table import Row
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Image, Scan, Volume

logger = logging.getLogger(__name__)

Read = Callable[[RunItem], Scan]


def write_exports(
    out: Path, formats: Sequence[str], items: Sequence[RunItem], rows: Mapping[str, Sequence[Row]], read: Read
) -> None:
    """Write what all scans of a run make together, from their masks as they lie in its folder.

    Each is made in a hidden folder, announced in files.csv, and moved to its place in one step. Scans of another kind
    than a format can hold are counted in one line of the log.

    Args:
        out: the run's folder.
        formats: "coco" and "nnunet".
        items: of the run; those that failed are left out.
        rows: by item.
        read: reads an item's scan again.

    Raises:
        UnwritableResult: the file system refused.
    """
    done = [item for item in items if item.id in rows and rows[item.id][0].ok]
    if not formats or not done:
        return
    names = list(dict.fromkeys(phrase for item in done for phrase in item.phrases))
    try:
        made = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as error:
        raise UnwritableResult(f"{out}: could not be written ({error.strerror})") from error
    try:
        examples = _Examples(out, done, names, read)
        if "coco" in formats:
            write_coco(examples.of("image"), names, made, beside=out)
            examples.say("coco", "images")
        if "nnunet" in formats:
            for kind, place in (("image", DATASET), ("volume", VOLUMES)):
                found = examples.of(kind)
                first = next(found, None)
                if first is not None:
                    write_nnunet(_again(first, found), names, made / place)
            examples.say("nnunet", "images and volumes with one spacing")
        _move(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _again(first: Example, others: Iterator[Example]) -> Iterator[Example]:
    yield first
    yield from others


class _Examples:
    """The scans of a run with their masks, each read when it is asked for."""

    def __init__(self, out: Path, items: Sequence[RunItem], names: Sequence[str], read: Read) -> None:
        self._out, self._items, self._read = out, items, read
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self._taken: set[str] = set()

    def of(self, kind: str) -> Iterator[Example]:
        """The images, or the volumes that one affine places."""
        for item in self._items:
            try:
                scan = self._read(item)
                if kind != _kind(scan):
                    continue
                masks = self._masks(item, scan)
            except LexisegError as error:
                logger.warning("%s: left out of what is written of all scans", printable(str(error)))
                continue
            self._taken.add(item.id)
            yield Example(scan, item.path, masks)

    def say(self, format: str, holds: str) -> None:
        """One line on the scans that are not in what was written since the last one."""
        missing = len(self._items) - len(self._taken)
        if missing:
            logger.warning("%s: %d scans are left out; it holds %s", format, missing, holds)
        self._taken.clear()

    def _masks(self, item: RunItem, scan: Scan) -> dict[int, BoolArray]:
        suffix = ".png" if isinstance(scan, Image) else ".nii.gz"
        ends = [f"_{slug}" for slug in slugs(item.phrases)] if len(item.phrases) > 1 else [""]
        return {
            self._numbers[phrase]: read_mask(self._out / f"{item.name}_mask{end}{suffix}", scan)
            for phrase, end in zip(item.phrases, ends, strict=True)
        }


def _kind(scan: Scan) -> str:
    if isinstance(scan, Volume):
        return "volume" if scan.geometry.regular and not scan.colour else ""
    return "image"


def _move(made: Path, out: Path) -> None:
    places = sorted(made.iterdir())
    ledger.begin_exports(out, [place.name for place in places])
    written: list[Path] = []
    try:
        for place in places:
            target = place.rename(out / place.name)
            written += sorted(path for path in target.rglob("*") if path.is_file()) if target.is_dir() else [target]
    except OSError as error:
        raise UnwritableResult(f"{out}: {place.name} could not be put in its place ({error.strerror})") from error
    ledger.finish_exports(out, written)

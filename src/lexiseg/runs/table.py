"""results.csv: appended to so that no kill loses a finished scan, and put in order at the end."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable
from lexiseg.values.arrays import BoolArray
from lexiseg.values.scans import Scan, Volume

if TYPE_CHECKING:
    from lexiseg.pipelines.results import TargetResult

COLUMNS = (
    "id",
    "image",
    "text",
    "preset",
    "present",
    "presence",
    "confidence",
    "boxes",
    "seconds",
    "status",
    "error",
    "notes",
    "verdict",
    "area_px",
    "area_mm2",
    "slices",
    "volume_mm3",
)
"""The columns of results.csv, in their order: a contract with other tools."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scan and phrase; every field is the text of its cell, without line breaks.

    Attributes:
        id: the scan's; its files begin with `safe_id` of it.
        image: the scan's path as it was given (of a manifest, as the manifest has it).
        text: the phrase.
        preset: the preset's name.
        present: "true" or "false"; "" for a failed scan.
        presence: 0 to 1; "" where the encoder offers no absolute evidence, or the scan failed.
        confidence: 0 to 1, see `TargetResult.confidence`; "" where undefined.
        boxes: what the segmenter was asked, "x0 y0 x1 y1" in pixels, end-exclusive, several separated by ";";
            a volume's boxes begin with their slice: "12:x0 y0 x1 y1".
        seconds: wall time of the whole scan, all its phrases together.
        status: "ok" or "failed".
        error: why it failed, on one line; "" otherwise.
        notes: what was decided on reading and showing the scan: "name: text", separated by ";".
        verdict: "present" or "absent"; "" for a failed scan.
        area_px: pixels of an image's mask; "" for a volume.
        area_mm2: the same in mm2, where the spacing is known.
        slices: planes along a volume's slice axis that hold any of its mask; "" for an image.
        volume_mm3: of a volume's mask, where the spacing is known.
    """

    id: str
    image: str
    text: str
    preset: str
    present: str = ""
    presence: str = ""
    confidence: str = ""
    boxes: str = ""
    seconds: str = ""
    status: str = "ok"
    error: str = ""
    notes: str = ""
    verdict: str = ""
    area_px: str = ""
    area_mm2: str = ""
    slices: str = ""
    volume_mm3: str = ""

    def to_line(self) -> str:
        """The row as CSV, with its line break and no other."""
        return csv_line([printable(getattr(self, name)) for name in COLUMNS])

    @classmethod
    def from_line(cls, line: str) -> Row:
        """The row of a line.

        Raises:
            UsageError: the line has another number of cells, or a status that is none.
        """
        cells = next(csv.reader([line]), [])
        if len(cells) != len(COLUMNS) or cells[COLUMNS.index("status")] not in ("ok", "failed"):
            raise UsageError(
                f"a line has {len(cells)} cells or no status; expected the {len(COLUMNS)} columns {','.join(COLUMNS)}"
            )
        return cls(**dict(zip(COLUMNS, cells, strict=True)))

    @property
    def ok(self) -> bool:
        """Whether the scan was done."""
        return self.status == "ok"


def csv_line(cells: Sequence[str]) -> str:
    """Cells as one CSV line with its line break."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def number(value: float, digits: int = 4) -> str:
    """A number's cell; "" for NaN."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def boxes_cell(target: TargetResult, *, volume: bool) -> str:
    """The boxes of a target, as `Row.boxes` describes them."""
    return ";".join(
        f"{index}:{text}" if volume else text
        for index, prompts in enumerate(target.prompts)
        for text in (" ".join(f"{edge:g}" for edge in box) for box in prompts.boxes)
    )


def sizes(mask: BoolArray, scan: Scan) -> dict[str, str]:
    """The cells of `Row` that say how large a mask is.

    Args:
        mask: bool, of the scan's shape.
        scan: what it is of.
    """
    count = int(mask.sum())
    spacing = scan.spacing
    size = "" if spacing is None else f"{count * math.prod(spacing):.2f}"
    if isinstance(scan, Volume):
        return {"slices": str(int(mask.any(axis=(1, 2)).sum())), "volume_mm3": size}
    return {"area_px": str(count), "area_mm2": size}


RESULTS_NAME = "results.csv"
_HEADER = csv_line(COLUMNS)


def read_results(path: Path) -> list[Row]:
    """The rows of a results.csv, in the file's order; a last line that a kill tore off is dropped.

    Raises:
        UsageError: the file cannot be read, or is no results.csv.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror})") from error
    # What follows the last line break was being written when the run was killed.
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines(keepends=True)
    if not lines:
        return []
    header = lines[0].replace("\r\n", "\n")
    if header != _HEADER:
        whose = "another version of lexiseg" if _HEADER.startswith(header.rstrip("\n")) else "no lexiseg"
        raise UsageError(f"{path}: it was written by {whose}; choose another folder or move it away")
    try:
        return [Row.from_line(line) for line in lines[1:]]
    except UsageError as error:
        raise UsageError(f"{path}: {error}; move it away or run without --resume") from error


def write_results(path: Path, rows: Iterable[Row]) -> Path:
    """Write all rows in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    text = _HEADER + "".join(row.to_line() for row in rows)
    return atomic_write(path, lambda file: file.write(text.encode()))


def append_results(path: Path, rows: Sequence[Row]) -> None:
    """Append one scan's rows to a table that `write_results` began, and wait until they are on the disk.

    Raises:
        UnwritableResult: the file system refused; the table ends where it ended before.
    """
    content = "".join(row.to_line() for row in rows).encode()
    try:
        # Unbuffered: a failed write must not come back when the file is closed.
        with path.open("ab", buffering=0) as handle:
            before = handle.seek(0, os.SEEK_END)
            try:
                if handle.write(content) != len(content):
                    raise OSError(None, "the disk is full")
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(before)
                raise
    except OSError as error:
        raise UnwritableResult(
            f"{path}: could not be written ({error.strerror}); free some space and run again with --resume"
        ) from error

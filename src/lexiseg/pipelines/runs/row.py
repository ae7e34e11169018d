"""One line of results.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lexiseg.errors import UsageError
from lexiseg.pipelines.result import Finding
from lexiseg.scans import printable

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
        confidence: 0 to 1, see `Finding.confidence`; "" where undefined.
        boxes: what the segmenter was asked, "x0 y0 x1 y1" in pixels, end-exclusive, several separated by ";";
            a volume's boxes begin with their slice: "12:x0 y0 x1 y1".
        seconds: wall time of the whole scan, all its phrases together.
        status: "ok" or "failed".
        error: why it failed, on one line; "" otherwise.
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
                f"a line has {len(cells)} cells or no status; expected the {len(COLUMNS)} columns "
                f"{','.join(COLUMNS)}"
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


def boxes_cell(finding: Finding, *, volume: bool) -> str:
    """The boxes of a finding, as `Row.boxes` describes them."""
    return ";".join(
        f"{index}:{text}" if volume else text
        for index, prompts in enumerate(finding.prompts)
        for text in (" ".join(f"{edge:g}" for edge in box) for box in prompts.boxes)
    )

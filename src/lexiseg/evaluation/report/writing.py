"""Tables and numbers as text: Markdown, CSV and JSON, for every report of lexiseg; equal values, equal bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from lexiseg.files import atomic_write
from lexiseg.io.names import printable

NOTHING = "–"
"""What a table shows for an undefined number."""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, smaller text that goes with it, and whether it is set off as the best."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        title: one line.
        header: one text for each column.
        rows: of cells.
        words: how many columns at the left hold words; the others hold numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1


def cells(*texts: object) -> tuple[Cell, ...]:
    """Plain cells."""
    return tuple(Cell(str(text)) for text in texts)


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A number's text; a dash for NaN, and no "-0.000"."""
    if math.isnan(value):
        return NOTHING
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def markdown_table(table: Table) -> Iterator[str]:
    """Lines of Markdown, without the title."""
    yield "| " + " | ".join(map(escaped, table.header)) + " |"
    yield "|" + "|".join("---" if k < table.words else "---:" for k in range(len(table.header))) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(_markdown_cell, row)) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = escaped(cell.text) + (f" ({escaped(cell.note)})" if cell.note else "")
    return f"**{text}**" if cell.best else text


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for character in "\\|<>*_`[]#":
        text = text.replace(character, f"\\{character}")
    return text


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV; undefined numbers are empty, truth values lower case, numbers of ten digits."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows([_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def csv_of_records(records: Sequence[Mapping[str, object]]) -> str:
    """A CSV of mappings from column to value; a column that a row lacks is empty."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    return csv_text(columns, ([record.get(name) for name in columns] for record in records))


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else ""
    return printable(str(value))


def json_text(content: Any) -> str:
    """JSON; undefined numbers are null, numbers of ten digits, beyond which a sum's order shows."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def write_texts(texts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write texts by file name, each in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    return [
        atomic_write(folder / name, partial(_put, text.encode("utf-8", errors="replace")))
        for name, text in texts.items()
    ]


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)

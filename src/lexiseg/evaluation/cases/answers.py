"""results.csv: what a system says of each scan besides its mask."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.scans import printable


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A row of results.csv.

    Attributes:
        text: the phrase.
        present: the decision; None where the row does not say.
        presence: 0 to 1; NaN where the row does not say.
        confidence: 0 to 1; likewise.
        error: why the scan failed; "" where it did not.
    """

    text: str = ""
    present: bool | None = None
    presence: float = math.nan
    confidence: float = math.nan
    error: str = ""


def read_answers(folder: str | Path) -> dict[str, tuple[Answer, ...]]:
    """A folder's results.csv, by id; its phrases in order.

    Any program may write one: of the columns only id is needed, and text, present, presence, confidence,
    status and error are read where they are.

    Returns:
        Nothing where there is no such file.

    Raises:
        UsageError: the file is no such table, an id has a phrase twice, or a number is none between 0 and 1;
        one
            line that begins with the file's name.
    """
    path = Path(folder) / "results.csv"
    if not path.exists():
        return {}
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        found: dict[str, list[Answer]] = {}
        if "id" not in (table.fieldnames or ()):
            raise UsageError("it has no column id; expected what `lexiseg segment` writes")
        for row in table:
            answer = _answer({key: (value or "") for key, value in row.items() if key}, table.line_num)
            earlier = found.setdefault(row["id"] or "", [])
            if answer.text in [each.text for each in earlier]:
                raise UsageError(f"line {table.line_num} has the id {row['id']} again; expected each once")
            earlier.append(answer)
    except (OSError, UnicodeDecodeError, csv.Error, UsageError) as error:
        reason = error if isinstance(error, UsageError) else f"it cannot be read as CSV ({error})"
        raise UsageError(f"{printable(str(path))}: {printable(str(reason))}") from error
    return {name: tuple(answers) for name, answers in found.items()}


def _answer(row: dict[str, str], line: int) -> Answer:
    decisions = {"true": True, "false": False}
    return Answer(
        text=row.get("text", ""),
        present=decisions.get(row.get("present", "").casefold()),
        presence=_share(row, "presence", line),
        confidence=_share(row, "confidence", line),
        error=printable(row.get("error", "")) if row.get("status") == "failed" else "",
    )


def _share(row: dict[str, str], column: str, line: int) -> float:
    written = row.get(column, "").strip()
    if not written:
        return math.nan
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f"line {line} has the {column} {written}; expected a number from 0 to 1")
    return value

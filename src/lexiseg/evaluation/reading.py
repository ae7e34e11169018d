"""Which file of a folder is the prediction of an id: by name, never by order."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.names import printable, safe_id


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

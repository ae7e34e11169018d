"""HC18: fetal heads in ultrasound, annotated by an ellipse's outline."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

from lexiseg.datasets.layouts.layout import Case, Found, Layout, Source
from lexiseg.datasets.layouts.making import filled
from lexiseg.datasets.layouts.tree import files, find_root, same_or_nested, stem, subfolder

_LOOKS_FOR = "a folder training_set with '000_HC.png' and '000_HC_Annotation.png'"
_IMAGE = re.compile(r"(?P<fetus>[0-9]+)_[0-9]*HC", re.IGNORECASE)
_TABLE = "training_set_pixel_size_and_HC.csv"
_COLUMNS = {"pixel size(mm)": "pixel_mm", "head circumference (mm)": "head_circumference_mm"}


def _images(folder: Path) -> Path | None:
    training = subfolder(folder, "training_set")
    if training is None and folder.name.casefold() == "training_set":
        training = folder
    if training is None:
        return None
    training = same_or_nested(training)
    return training if any(_IMAGE.fullmatch(stem(path)) for path in files(training)) else None


def _find(source: Source) -> Found:
    root = find_root(source.folder, lambda folder: _images(folder) is not None, _LOOKS_FOR)
    folder = _images(root)
    assert folder is not None
    there = {stem(path).casefold(): path for path in files(folder)}
    table, problems = _measures(root)
    cases = []
    for path in files(folder):
        match = _IMAGE.fullmatch(stem(path))
        if match is None:
            continue
        outline = there.get(f"{stem(path)}_annotation".casefold())
        cases.append(
            Case(
                source=path,
                mask=filled(outline) if outline else None,
                group=match["fetus"],
                label="fetal_head",
                extra=table.get(path.name, {}),
            )
        )
    return Found(cases, problems)


def _measures(root: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Pixel size and head circumference by file name, of the table beside the training set."""
    path = next((each / _TABLE for each in (root, root.parent) if (each / _TABLE).is_file()), None)
    if path is None:
        return {}, [f"{_TABLE}: not there, so that pixel sizes are not known"]
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
        return {row["filename"].strip(): _numbers(row) for row in rows}, []
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError):
        return {}, [
            f"{_TABLE}: cannot be read as a table with the column filename; pixel sizes are not known"
        ]


def _numbers(row: dict[str, str]) -> dict[str, str]:
    cells = {}
    for column, name in _COLUMNS.items():
        try:
            value = float(row.get(column) or "")
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            cells[name] = f"{value:.12g}"
    return cells


HC18 = Layout(
    name="hc18", about="fetal ultrasound, heads (van den Heuvel 2018)", looks_for=_LOOKS_FOR, find=_find
)
"""Outlines are filled; the column group is the number in the name, pixel_mm the size of a pixel in mm. The
challenge's test_set has no annotations and is passed over."""

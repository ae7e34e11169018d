"""Pairs from a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from lexiseg.datasets.pairs.pair import Pair, PairSet, Part, checked, one_line
from lexiseg.datasets.tables import csv_text, place_inside
from lexiseg.errors import BadManifest
from lexiseg.scans.names import printable

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "filename", "image_path", "path"),
    "text": ("text", "caption"),
    "group": ("group", "patient", "subject"),
    "split": ("split", "part"),
}
"""What a column may be called, in any letter case; the first is ours, the others are common."""

_PARTS: Mapping[str, Part] = {
    "": "", "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip


def table_pairs(path: Path, *, min_caption: int = 1) -> PairSet:
    """Pairs of a UTF-8 CSV with the columns image,text[,group][,split], and any others.

    A manifest of lexiseg with captions is such a CSV.  Paths are relative to the CSV's folder and stay inside
    it.  Rows that cannot be used are left out and listed.

    Args:
        path: the CSV.
        min_caption: characters that a caption must have.

    Raises:
        BadManifest: the file is missing, not UTF-8 or not CSV, lacks a column, or has fewer than two pairs
            that can be used.
    """
    try:
        text = csv_text(path, expected="image,text")
        return checked(_rows(text, path.parent), min_caption=min_caption)
    except BadManifest as error:
        raise BadManifest(f"{printable(str(path))}: {printable(str(error))}") from error


def _rows(text: str, folder: Path) -> Iterator[tuple[str, Pair | str]]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(table)]
        columns = _places(header)
        for fields in table:
            if any(value.strip() for value in fields):
                yield f"line {table.line_num}", _pair(fields, columns, len(header), folder)
    except csv.Error as error:
        raise BadManifest(f"line {table.line_num} is not CSV ({error})") from error


def _places(header: list[str]) -> dict[str, int]:
    """Where each known column is."""
    lower = [name.casefold() for name in header]
    found = {}
    for name, aliases in _COLUMNS.items():
        place = next((lower.index(alias) for alias in aliases if alias in lower), None)
        if place is not None:
            found[name] = place
        elif name in ("image", "text"):
            raise BadManifest(
                f"the column {name} is missing among {','.join(header)[:120]}; "
                "expected image,text[,group][,split], separated by commas"
            )
    return found


def _pair(fields: list[str], columns: Mapping[str, int], width: int, folder: Path) -> Pair | str:
    if len(fields) != width:
        return f"it has {len(fields)} fields, expected {width}; quote text with commas"
    values = {name: fields[place].strip() for name, place in columns.items()}
    if not values["image"]:
        return "no image is named"
    image, problem = place_inside(values["image"], folder, "image")
    part = _PARTS.get(values.get("split", "").casefold())
    if problem or part is None:
        return problem or f"the split {values['split'][:40]} is unknown; expected train, val or test"
    return Pair(
        image=image, text=one_line(values["text"]), group=values.get("group") or values["image"], part=part
    )

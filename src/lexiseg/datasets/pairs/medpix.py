"""Pairs from MedPix 2.0 as it is distributed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lexiseg.datasets.pairs.pairs import Pair, PairSet, checked, one_line
from lexiseg.datasets.splits import Part
from lexiseg.errors import BadManifest

_LISTS = ("Descriptions.json", "Description.json")
_LINES = "descriptions_*.jsonl"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif")
# What an author of a case has not yet replaced.
_PLACEHOLDER = re.compile(r"replace this\b|in progress\b|pending\b|n/?a\b|none\b|test\b", re.IGNORECASE)


def is_medpix(folder: Path) -> bool:
    """Whether the folder holds MedPix 2.0's descriptions."""
    lists, lines = _sources(folder)
    return bool(lists or lines)


def medpix_pairs(folder: Path, *, min_caption: int = 1) -> PairSet:
    """Pairs of MedPix 2.0: ``Description(s).json`` or ``descriptions_{train,dev,test}*.jsonl``, and images/.

    Each entry is ``{"U_id", "image", "Description": {"Caption", ...}, ...}`` with the image in
    ``images/IMAGE.png``; the U_id is the clinical case, which is the group.  A split that the .jsonl files
    give is kept.  Captions that were never written ("Replace this - ...", "IN PROGRESS") are left out.

    Source: github.com/CHILab1/MedPix-2.0; Siragusa et al., arXiv 2407.02994.

    Args:
        folder: holds the descriptions (or ``splitted_dataset/`` does) and ``images/``.
        min_caption: characters that a caption must have.

    Raises:
        BadManifest: a file is not the JSON it should be, or fewer than two pairs can be used.
    """
    lists, lines = _sources(folder)
    parts: dict[str, Part] = {}
    entries: list[Mapping[str, Any]] = []
    for path in lines:
        found = [_parsed(line, path) for line in _text(path).splitlines() if line.strip()]
        entries += found
        parts |= {str(each.get("image")): _part(path) for each in found}
    if lists:
        content = _parsed(_text(lists[0]), lists[0])
        if not isinstance(content, list):
            raise BadManifest(f"{lists[0]}: it is no list of descriptions")
        entries = content
    return checked(_pairs(folder, entries, parts), min_caption=min_caption)


def _sources(folder: Path) -> tuple[list[Path], list[Path]]:
    lists = [folder / name for name in _LISTS if (folder / name).is_file()]
    places = (folder, folder / "splitted_dataset")
    return lists, sorted(path for place in places for path in place.glob(_LINES))


def _pairs(
    folder: Path, entries: list[Mapping[str, Any]], parts: Mapping[str, Part]
) -> Iterator[tuple[str, Pair | str]]:
    for number, entry in enumerate(entries, start=1):
        name = entry.get("image") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or Path(name).name != name:
            yield f"entry {number}", "it names no image"
            continue
        description = entry.get("Description")
        text = one_line(description.get("Caption")) if isinstance(description, dict) else ""
        if _PLACEHOLDER.match(text) and len(text) < 60:
            yield name, "the caption was never written"
            continue
        yield (
            name,
            Pair(
                image=_image(folder, name),
                text=text,
                group=str(entry.get("U_id") or name),
                part=parts.get(name, ""),
            ),
        )


def _image(folder: Path, name: str) -> Path:
    places = [folder / "images" / f"{name}{suffix}" for suffix in ("", *_SUFFIXES)]
    return next((path for path in places if path.is_file()), places[1])


def _part(path: Path) -> Part:
    name = path.stem.removeprefix("descriptions_")
    return "val" if name.startswith("dev") else "test" if name.startswith("test") else "train"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{path}: it cannot be read ({type(error).__name__})") from error


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadManifest(f"{path}: it is not JSON ({error})") from error

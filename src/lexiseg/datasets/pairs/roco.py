"""Pairs from ROCO and ROCOv2 as they are distributed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lexiseg.datasets.manifest import csv_text
from lexiseg.datasets.pairs.pairs import Pair, PairSet, checked, one_line
from lexiseg.datasets.splits import Part
from lexiseg.errors import BadManifest

_FIRST: Mapping[str, Part] = {"train": "train", "validation": "val", "test": "test"}
_SECOND: Mapping[str, Part] = {"train": "train", "valid": "val", "validation": "val", "test": "test"}
_SUFFIXES = (".jpg", ".png", ".jpeg")
_ARTICLE = re.compile(r"(PMC\d+)")


def is_roco(folder: Path) -> bool:
    """Whether the folder holds ROCO's or ROCOv2's captions."""
    return bool(_first_captions(folder) or _second_captions(folder))


def roco_pairs(folder: Path, *, min_caption: int = 1) -> PairSet:
    """Pairs of ROCO (radiology images) or of ROCOv2, with the split they come with.

    ROCO: ``[data/]{train,validation,test}/radiology/captions.txt`` with lines ``ROCO_ID<tab>caption``, and
    ``images/`` beside it with ``ROCO_ID.jpg``, or with ``PMCID_NAME.jpg`` as its own download script names
    them (``dlinks.txt`` says which is which).  ROCOv2: ``{train,valid,test}_captions.csv`` with ID,Caption,
    and ``{train,valid,test}[_images]/ID.jpg``.  The group is the article where it is known.

    Source: Pelka et al., LABELS 2018 (github.com/razorx89/roco-dataset); Rueckert et al., arXiv 2405.10004.

    Args:
        folder: the data set's.
        min_caption: characters that a caption must have.

    Raises:
        BadManifest: a table cannot be read, or fewer than two pairs can be used.
    """
    first = _first_captions(folder)
    found = _first(first) if first else _second(_second_captions(folder))
    return checked(found, min_caption=min_caption)


def _first_captions(folder: Path) -> list[tuple[Path, Part]]:
    places = [
        (base / name / "radiology" / "captions.txt", part)
        for base in (folder / "data", folder)
        for name, part in _FIRST.items()
    ]
    return [(path, part) for path, part in places if path.is_file()]


def _second_captions(folder: Path) -> list[tuple[Path, Part]]:
    places = [(folder / f"{name}_captions.csv", part) for name, part in _SECOND.items()]
    return [(path, part) for path, part in places if path.is_file()]


def _first(captions: list[tuple[Path, Part]]) -> Iterator[tuple[str, Pair | str]]:
    for path, part in captions:
        images = _listing(path.parent / "images")
        downloads = _downloads(path.parent / "dlinks.txt")
        for number, line in enumerate(_text(path).splitlines(), start=1):
            name, tab, caption = line.partition("\t")
            name = name.strip()
            if not tab or not name:
                yield f"{path.parent.parent.name} line {number}", "it has no tab after the image's name"
                continue
            article, downloaded = downloads.get(name, ("", ""))
            names = [f"{name}{suffix}" for suffix in _SUFFIXES] + [downloaded]
            image = next((images[each] for each in names if each in images), None)
            yield (
                name,
                Pair(
                    image=image or path.parent / "images" / names[0],
                    text=one_line(caption),
                    group=article or name,
                    part=part,
                ),
            )


def _second(captions: list[tuple[Path, Part]]) -> Iterator[tuple[str, Pair | str]]:
    for path, part in captions:
        name = path.name.removesuffix("_captions.csv")
        folders = [path.parent / f"{name}_images", path.parent / name, path.parent / "images"]
        nested = [folder / folder.name for folder in folders]
        images = {key: value for folder in (*nested, *folders) for key, value in _listing(folder).items()}
        for row in csv.DictReader(io.StringIO(_table(path), newline="")):
            values = {str(key).strip().casefold(): value for key, value in row.items() if key}
            identity = str(values.get("id") or "").strip()
            if not identity:
                yield path.name, "a row has no ID"
                continue
            image = next((images[n] for s in _SUFFIXES if (n := f"{identity}{s}") in images), None)
            yield (
                identity,
                Pair(
                    image=image or folders[0] / f"{identity}.jpg",
                    text=one_line(values.get("caption")),
                    group=identity,
                    part=part,
                ),
            )


def _downloads(path: Path) -> dict[str, tuple[str, str]]:
    """Article and file name of each image, from the download script's list."""
    if not path.is_file():
        return {}
    found = {}
    for line in _text(path).splitlines():
        fields = line.split("\t")
        article = _ARTICLE.search(fields[1]) if len(fields) > 2 else None
        if article:
            found[fields[0].strip()] = (article[1], f"{article[1]}_{fields[-1].strip()}")
    return found


def _listing(folder: Path) -> dict[str, Path]:
    # One listing instead of a question for each of eighty thousand files.
    return {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}


def _table(path: Path) -> str:
    try:
        return csv_text(path, expected="ID,Caption")
    except BadManifest as error:
        raise BadManifest(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadManifest(f"{path}: it cannot be read ({error.strerror})") from error

"""Images with captions as values: checked, split by group, and read from a CSV."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.datasets.columns import NO_GROUP, TAKEN_AS_GROUP, group_column, group_of, known, plain_name
from lexiseg.datasets.manifest import csv_text, place_inside
from lexiseg.datasets.splits import Part, part_named, split_by_group, tell_torn
from lexiseg.errors import BadManifest, UsageError
from lexiseg.io.names import printable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One image and one caption of it.

    Attributes:
        image: the file; whether it can be read is left to reading it.
        text: the caption, on one line.
        group: the patient, article or case that a split keeps together.
        part: of the data set's own split; "" where it has none.
    """

    image: Path
    text: str
    group: str
    part: Part = ""


@dataclass(frozen=True)
class SkippedPair:
    """A row that could not be used.

    Attributes:
        where: the line of a table, or the name that the data set gives the image.
        reason: why, on one line, without the caption.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class PairSet:
    """Pairs with what was left out.

    Attributes:
        pairs: those that can be used, in the order of the data set.
        skipped: the others.
    """

    pairs: tuple[Pair, ...]
    skipped: tuple[SkippedPair, ...] = ()


def checked(found: Iterable[tuple[str, Pair | str]], *, min_caption: int, seen: set[Path] | None = None) -> PairSet:
    """Tell what can be used from what cannot.

    Args:
        found: where a pair was found, and the pair or why there is none.
        min_caption: characters that a caption must have.
        seen: the images that exist, where a listing is cheaper than asking for each; None asks.

    Raises:
        BadManifest: fewer than two pairs can be used.
    """
    pairs, skipped = [], []
    for where, each in found:
        problem = each if isinstance(each, str) else _problem(each, min_caption, seen)
        if problem or isinstance(each, str):
            skipped.append(SkippedPair(where, problem))
        else:
            pairs.append(each)
    if len(pairs) < 2:
        first = f"; {skipped[0].where}: {skipped[0].reason}" if skipped else ""
        count = "1 pair" if len(pairs) == 1 else "no pair"
        raise BadManifest(f"{count} can be used, expected at least 2 ({len(skipped)} left out{first})")
    return PairSet(tuple(pairs), tuple(skipped))


def _problem(pair: Pair, min_caption: int, seen: set[Path] | None) -> str:
    if not pair.text:
        return "the caption is empty"
    if not known(pair.text):
        return f"the caption is {pair.text!r}, which says nothing"
    if len(pair.text) < min_caption:
        return f"the caption has {len(pair.text)} characters, expected at least {min_caption}"
    if not (pair.image.is_file() if seen is None else pair.image in seen):
        hint = "; its path has backslashes: write / between folders" if "\\" in pair.image.name else ""
        return f"there is no image {printable(pair.image.name)}{hint}"
    return ""


def one_line(text: object) -> str:
    """A caption as a data set has it, with single blanks; "" for what is no text."""
    return " ".join(text.split()) if isinstance(text, str) else ""


def split_pairs(pairs: Sequence[Pair], *, validation: float = 0.15, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs; a group is never in both, unless the data set's own split has it so.

    The data set's own split counts where it has one: its test pairs are in neither part, and its validation
    pairs are the validation part; a warning tells where it tears a group.  What says nothing of the kind is split by
    group.

    Args:
        pairs: all of them.
        validation: share of the pairs to validate with; the paper has 0.15.
        seed: another split.

    Raises:
        UsageError: a share that is none, or a part with fewer than two pairs.
    """
    if not 0 < validation < 1:
        raise UsageError(f"the validation share is {validation}; expected more than 0 and less than 1")
    tell_torn((pair.group, pair.part or "train") for pair in pairs)
    own = [pair for pair in pairs if pair.part == "val"]
    rest = [pair for pair in pairs if pair.part not in ("val", "test")]
    if own:
        train = rest
    elif not rest:
        train = []
    else:
        shares = {"train": 1 - validation, "val": validation}
        names = split_by_group([pair.group for pair in rest], shares, seed=seed)
        train = [pair for pair, name in zip(rest, names, strict=True) if name == "train"]
        own = [pair for pair, name in zip(rest, names, strict=True) if name == "val"]
    if min(len(train), len(own)) < 2:
        groups = len({pair.group for pair in pairs})
        raise UsageError(
            f"{len(train)} pairs would train and {len(own)} validate, expected at least 2 each; "
            f"there are {len(pairs)} pairs of {groups} groups"
        )
    return train, own


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "filename", "imagepath", "path"),
    "text": ("text", "caption"),
    "split": ("split", "part"),
}
"""What a column may be called, as `plain_name` writes it; the first is ours, the others are common."""

_OF_MANIFESTS = {"id", "mask", "label", "bbox", "weight", "presence", "confidence"}
"""Columns of lexiseg's own manifests that say nothing about pairs."""


def table_pairs(path: Path, *, min_caption: int = 1) -> PairSet:
    """Pairs of a UTF-8 CSV with the columns image,text[,group][,split], and any others.

    A group may be called patient_id, subject_id, study_id, case_id and the like. Which column was taken for it, and
    which columns are not known, is said in one line.

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
        return checked(_rows(text, path), min_caption=min_caption)
    except BadManifest as error:
        raise BadManifest(f"{printable(str(path))}: {printable(str(error))}") from error


def _rows(text: str, path: Path) -> Iterator[tuple[str, Pair | str]]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(table)]
        lines = [(table.line_num, fields) for fields in table if any(value.strip() for value in fields)]
    except csv.Error as error:
        raise BadManifest(f"line {table.line_num} is not CSV ({error})") from error
    columns = _places(header)
    group = group_column([dict(zip(header, fields, strict=False)) for _, fields in lines])
    _tell_columns(header, columns, group, path)
    for line, fields in lines:
        yield f"line {line}", _pair(fields, header, columns, group, path.parent)


def _places(header: list[str]) -> dict[str, int]:
    """Where each known column is."""
    lower = [plain_name(name) for name in header]
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


def _tell_columns(header: Sequence[str], columns: Mapping[str, int], group: str | None, path: Path) -> None:
    """Say what was taken for the group, and what was not looked at, where that is not plain."""
    told = []
    if group is None and "split" not in columns:
        told.append(NO_GROUP.format("pairs"))
    elif group is not None and plain_name(group) != "group":
        told.append(TAKEN_AS_GROUP.format(group))
    taken = {*columns.values(), *(k for k, name in enumerate(header) if name == group or plain_name(name) == "group")}
    others = [
        name
        for k, name in enumerate(header)
        if k not in taken and plain_name(name) not in _OF_MANIFESTS and name.strip()
    ]
    if others:
        told.append(f"{'column' if len(others) == 1 else 'columns'} {', '.join(others)[:120]} not known, passed over")
    if told:
        logger.warning("%s: %s", printable(path.name), printable("; ".join(told)))


def _pair(
    fields: list[str], header: Sequence[str], columns: Mapping[str, int], group: str | None, folder: Path
) -> Pair | str:
    if len(fields) != len(header):
        return f"it has {len(fields)} fields, expected {len(header)}; quote text with commas"
    values = {name: fields[place].strip() for name, place in columns.items()}
    if not values["image"]:
        return "no image is named"
    image, problem = place_inside(values["image"], folder, "image")
    part = part_named(values.get("split", ""))
    if problem or part is None:
        return problem or f"the split {values['split'][:40]} is unknown; expected train, val or test"
    named = group_of(group, dict(zip(header, fields, strict=True)))
    return Pair(image=image, text=one_line(values["text"]), group=named or values["image"], part=part)

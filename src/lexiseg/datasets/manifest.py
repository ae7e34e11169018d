"""Manifests: a CSV that lists scans, with what is known of each."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from lexiseg.datasets.columns import group_column, group_of
from lexiseg.errors import BadManifest, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable, safe_id


def csv_text(path: Path, *, expected: str) -> str:
    """The text of a CSV file.

    Args:
        path: the file.
        expected: the columns that its header must have, for the message.

    Raises:
        BadManifest: it is missing, no file, empty or not UTF-8; the reason alone, without the path.
    """
    if path.exists() and not path.is_file():
        raise BadManifest("it is a folder or a device; expected a CSV file")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BadManifest("no such file") from error
    except OSError as error:
        raise BadManifest(f"it cannot be read ({error.strerror})") from error
    if not content.strip():
        raise BadManifest(f"the file is empty; expected a header with {expected}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadManifest(f"it is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from error


def place_inside(written: str, folder: Path, column: str, *, absolute: bool = False) -> tuple[Path, str]:
    """The path that a cell means, joined to a folder, and "" or why it may not be opened.

    A table that came from elsewhere must not make this machine read a file outside the folder: "..", and a link
    that leads out are refused.

    Args:
        written: the cell.
        folder: what it is relative to, and where it may lead.
        column: of the cell, for the message.
        absolute: whether the folder is one that the user named as the root, so that an absolute path inside it is
            fine; otherwise absolute paths are refused.
    """
    named = "the root" if absolute else "the manifest's folder"
    windows = PureWindowsPath(written)
    if not absolute and (PurePosixPath(written).is_absolute() or windows.drive or windows.root):
        return Path(written), f"the {column} {written} is an absolute path; expected one relative to the manifest"
    if windows.drive and not Path(written).is_absolute():
        return Path(written), f"the {column} {written} is an absolute path of another system; expected one in {named}"
    if ".." in windows.parts or "\0" in written:
        return Path(written), f"the {column} {written} leads out of {named}; expected one inside"
    place = _below(written, folder) if Path(written).is_absolute() else folder / written
    try:
        inside = place.resolve().is_relative_to(folder.resolve()) and not _is_loop(place)
    except (OSError, RuntimeError):  # a loop of links, to Python before 3.13
        inside = False
    if inside:
        return place, ""
    if Path(written).is_absolute():
        return Path(written), f"the {column} {written} lies outside {named}; expected one inside"
    return Path(written), f"the {column} {written} is a link out of {named}; copy the file in"


def _is_loop(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _below(written: str, folder: Path) -> Path:
    """An absolute path as one below the folder, where its name says so: what is told of it is then relative."""
    place, top = (Path(os.path.abspath(each)) for each in (written, folder))  # noqa: PTH100  (resolve() follows links)
    return folder / place.relative_to(top) if place.is_relative_to(top) else place


Box = tuple[float, float, float, float]
Place = Callable[..., tuple[Path, str]]

_REQUIRED = ("id", "image")
_KNOWN = ("id", "image", "mask", "text", "group", "label", "bbox")


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One scan of a manifest.

    Attributes:
        id: unique within the manifest, also as a file's name (`safe_id`).
        image: the scan, joined to the CSV's folder or the root; as written, and not to be opened, where `error` is set.
        mask: the true mask in the same way; None where there is none.
        text: what to look for, or a caption; "" where the manifest does not say.
        group: the patient or subject, which a split keeps together, of the column group, or one called patient_id,
            subject_id, case_id, study_id and the like (`group_column`); "" where unknown, or where it says NA or nan; a
            digest of a patient's name.
        label: the class; "" where unknown.
        boxes: x0 y0 x1 y1 in pixels, end-exclusive, of the column bbox.
        extra: every other column, by its name; also one that was taken as the group.
        error: why this row cannot be used, on one line; "" for a sound row.
    """

    id: str
    image: Path
    mask: Path | None = None
    text: str = ""
    group: str = ""
    label: str = ""
    boxes: tuple[Box, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def read_manifest(path: str | Path, *, root: str | Path | None = None) -> list[ManifestRow]:
    """Read a manifest: UTF-8 CSV with columns id,image[,mask][,text][,group][,label][,bbox] and any others.

    Paths are relative to the CSV's folder and stay inside it: an absolute path, "..", or a link that leads
    out makes that row an error, and the others are read. Whether files exist is left to reading them. Boxes
    are "x0 y0 x1 y1", several of them separated by ";".

    Args:
        path: the CSV.
        root: what paths are relative to and where they may lead, in place of the CSV's folder; absolute paths
            inside it are fine.

    Returns:
        The rows in order; blank lines are passed over.

    Raises:
        BadManifest: the file is missing, not UTF-8 or not CSV, lacks or repeats a column, has no rows, or
            repeats an id; one line that begins with the file's name.
        UsageError: the root is no folder.
    """
    path = Path(path)
    if root is not None and not Path(root).is_dir():
        raise UsageError(f"{printable(str(root))}: no such folder; expected the root of the manifest's paths")
    place = partial(place_inside, folder=path.parent if root is None else Path(root), absolute=root is not None)
    try:
        rows = list(_rows(csv_text(path, expected="id,image"), place))
        _refuse_repeated(rows)
    except BadManifest as error:
        raise BadManifest(f"{printable(str(path))}: {printable(str(error))}") from error
    return rows


def write_manifest(rows: Sequence[ManifestRow], path: str | Path) -> Path:
    """Write rows that `read_manifest` reads back, with paths relative to the CSV's folder; in one step.

    Columns that no row fills are left out, except id and image.

    Args:
        rows: at least one, with unique ids; their paths lie below the CSV's folder.
        path: the CSV.

    Returns:
        `path`, as a Path.

    Raises:
        BadManifest: no rows, a repeated id, or a path outside the CSV's folder.
        UnwritableResult: the file system refused.
    """
    path = Path(path)
    if not rows:
        raise BadManifest(f"{path}: a manifest without rows is not written; expected at least one")
    _refuse_repeated(rows)
    cells = [_cells(row, path.parent) for row in rows]
    extra = dict.fromkeys(name for row in rows for name in row.extra)
    columns = [*(n for n in _KNOWN if n in _REQUIRED or any(cell[n] for cell in cells)), *extra]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(cells)
    return atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def taken_as_group(rows: Sequence[ManifestRow]) -> str | None:
    """The column that the rows' groups come from, where it is another than `group`."""
    taken = group_column([row.extra for row in rows])
    return taken if taken is not None and all(row.group == group_of(taken, row.extra) for row in rows) else None


def _rows(text: str, place: Place) -> Iterator[ManifestRow]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(table)]
        _refuse_columns(columns)
        lines = [(table.line_num, fields) for fields in table if any(value.strip() for value in fields)]
    except csv.Error as error:
        raise BadManifest(f"line {table.line_num} is not CSV ({error})") from error
    if not lines:
        raise BadManifest("it has a header but no rows; expected at least one scan")
    group = group_column([dict(zip(columns, fields, strict=False)) for _, fields in lines])
    for line, fields in lines:
        yield _row(columns, fields, place, line, group=group)


def _refuse_columns(columns: Sequence[str]) -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise BadManifest(
            f"the column {' and '.join(missing)} is missing among {','.join(columns)[:120]}; "
            "expected id,image[,mask][,text][,group][,label], separated by commas"
        )
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise BadManifest(f"the column {repeated[0] or '(without a name)'} is there more than once")


def _refuse_repeated(rows: Sequence[ManifestRow]) -> None:
    seen: dict[str, str] = {}
    for row in rows:
        key = safe_id(row.id).casefold()
        if key in seen:
            same = "is there more than once" if seen[key] == row.id else f"names the same file as {seen[key]}"
            raise BadManifest(f"the id {row.id} {same}; ids must differ")
        seen[key] = row.id


def _row(columns: Sequence[str], fields: Sequence[str], place: Place, line: int, *, group: str | None) -> ManifestRow:
    values = dict(zip(columns, (value.strip() for value in fields), strict=False))
    errors = []
    if len(fields) > len(columns):
        errors.append(f"line {line} has {len(fields)} fields, expected {len(columns)}; quote text with commas")
    if not values.get("id"):
        errors.append(f"line {line} has no id")
    image, mask = Path(), None
    if values.get("image"):
        image, problem = place(values["image"], column="image")
        errors.append(problem)
    else:
        errors.append(f"line {line} has no image")
    if values.get("mask"):
        mask, problem = place(values["mask"], column="mask")
        errors.append(problem)
    boxes, problem = _boxes(values.get("bbox", ""))
    errors.append(problem)
    return ManifestRow(
        id=values.get("id") or f"line{line}",
        image=image,
        mask=mask,
        text=values.get("text", ""),
        group=group_of(group, values),
        label=values.get("label", ""),
        boxes=boxes,
        extra={name: value for name, value in values.items() if name not in _KNOWN},
        error=printable("; ".join(filter(None, errors))),
    )


def _boxes(written: str) -> tuple[tuple[Box, ...], str]:
    boxes: list[Box] = []
    for part in filter(str.strip, written.split(";")):
        try:
            x0, y0, x1, y1 = map(float, part.split())
        except ValueError:
            return (), f"the bbox {written} cannot be read; expected x0 y0 x1 y1"
        if not (0 <= x0 < x1 < float("inf") and 0 <= y0 < y1 < float("inf")):
            return (), f"the bbox {written} is no box; expected x0 < x1 and y0 < y1"
        boxes.append((x0, y0, x1, y1))
    return tuple(boxes), ""


def _cells(row: ManifestRow, folder: Path) -> dict[str, str]:
    return {
        **row.extra,
        "id": row.id,
        "image": _relative(row.image, folder),
        "mask": _relative(row.mask, folder) if row.mask else "",
        "text": row.text,
        "group": row.group,
        "label": row.label,
        "bbox": ";".join(" ".join(f"{edge:g}" for edge in box) for box in row.boxes),
    }


def _relative(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path, folder))
    if ".." in relative.parts or relative.is_absolute():
        raise BadManifest(f"{printable(str(path))} lies outside the manifest's folder {folder}; expected inside")
    return relative.as_posix()

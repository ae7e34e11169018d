"""A run's record and its table: run.json and results.csv.

results.csv is appended to, so that no kill loses a finished scan, and put in order at the end.  run.json says
what made the results, to repeat the run, or to continue it with the same."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write
from lexiseg.io.names import printable
from lexiseg.version import __version__

if TYPE_CHECKING:
    from lexiseg.pipelines.results import TargetResult
    from lexiseg.values.scans import Planes


RECORD_NAME = "run.json"
_PACKAGES = ("torch", "open_clip_torch", "timm", "transformers", "numpy")
_SAME = ("lexiseg", "preset", "models", "phrases", "seed", "precision", "options")


def settings_record(
    provenance: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    seed: int,
    phrases: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides a run's results, as plain values.

    Folders of models are cut to their last part: a path names people and machines.

    Args:
        provenance: of the pipeline: "preset", "encoder", "segmenter".
        device: where it ran.
        precision: of the models.
        seed: of the run.
        phrases: asked of every scan; empty where a manifest says them.
        options: what was written and how, and what was read of folders and volumes.
    """
    models = {role: _nameless(provenance[role]) for role in ("encoder", "segmenter")}
    return {
        "lexiseg": __version__,
        "preset": _nameless(provenance["preset"]),
        "models": models,
        "phrases": list(phrases) if phrases else "each row's own text, see results.csv",
        "seed": seed,
        "device": device,
        "precision": precision,
        "options": dict(options),
        "versions": {
            "python": platform.python_version(),
            **{name.removesuffix("_torch"): _version(name) for name in _PACKAGES},
        },
    }


def now() -> str:
    """The time as ISO 8601, in seconds, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The folder's run.json, or None where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    path = folder / RECORD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: it cannot be read; run without --resume to start anew") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: it is no record of a run; run without --resume to start anew")
    return content


def write_record(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write run.json in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    content = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
    return atomic_write(folder / RECORD_NAME, lambda file: file.write(content.encode()))


def refuse_other(before: Mapping[str, Any] | None, settings: Mapping[str, Any], folder: Path) -> None:
    """Pass where an earlier run's record has the same settings and weights.

    Raises:
        UsageError: it does not, or there is no record; says what differs.
    """
    if before is None:
        raise UsageError(f"{folder}: there are results but no {RECORD_NAME}, so nobody knows what made them; "
                         "run without --resume or choose another folder")  # fmt: skip
    # Through JSON, in which tuples are lists.
    current = json.loads(json.dumps(settings, default=str))
    differing = [key for key in _SAME if _deciding(before.get(key)) != _deciding(current.get(key))]
    if differing:
        raise UsageError(
            f"{folder}: its run was made with other {' and '.join(map(_difference, differing))}; "
            "resume with the same, run without --resume, or choose another folder"
        )


def _deciding(value: Any) -> Any:
    """Without how much goes through a model at once: a run that needed too much memory goes on with less."""
    if not isinstance(value, dict):
        return value
    return {key: _deciding(each) for key, each in value.items() if key not in ("batch", "points_per_batch")}


def _difference(key: str) -> str:
    words = {"lexiseg": "version of lexiseg", "models": "weights", "options": "outputs asked for"}
    return words.get(key, key)


def _nameless(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _last_part(value) if isinstance(value, str) else value for key, value in values.items()}


def _last_part(text: str) -> str:
    """A folder's or file's name without where it lies; any other text as it is."""
    prefix, separator, rest = text.rpartition("local-dir:")
    path = Path(rest).expanduser()
    is_place = bool(separator) or path.is_absolute() or (len(path.parts) > 1 and path.exists())
    return f"{prefix}{separator}{path.name}" if is_place else text


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


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
    "notes",
    "verdict",
    "area_px",
    "area_mm2",
    "slices",
    "volume_mm3",
    "diameter_mm",
    "reviewed",
    "review",
    "review_seconds",
    "read_as",
)
"""The columns of results.csv, in their order: a contract with other tools."""
_FIRST = 17
"""How many of them the first tables had: the cells that an older one lacks are empty."""


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
        confidence: 0 to 1, see `TargetResult.confidence`; "" where undefined.
        boxes: what the segmenter was asked, "x0 y0 x1 y1" in pixels, end-exclusive, several separated by ";";
            a volume's boxes begin with their plane: "12:x0 y0 x1 y1". They lie in upright planes, see
            `Geometry.plane_axes`; an image's boxes on its stored pixels.
        seconds: wall time of the whole scan, all its phrases together.
        status: "ok" or "failed".
        error: why it failed, on one line; "" otherwise.
        notes: what was decided on reading and showing the scan: "name: text", separated by ";".
        verdict: "present", "absent" or "unknown" (see `TargetResult.verdict`); "" for a failed scan.
        area_px: pixels of an image's mask; "" for a volume.
        area_mm2: the same in mm2, where the spacing is known.
        slices: planes of a volume, as it was looked at, that hold any of its mask; "" for an image.
        volume_mm3: of a volume's mask, where the spacing is known.
        diameter_mm: the largest of one connected piece of the mask, see `lexiseg.runs.sizes.largest_diameter`.
        reviewed: "true" once a person looked at the scan; "" before.
        review: what the person said: "accepted", "corrected", "rejected" or "skipped".
        review_seconds: how long the scan was looked at.
        read_as: the target that the phrase was taken for, see `TargetResult.read_as`; "" where its own words say it,
            and where it was taken for none.
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
    notes: str = ""
    verdict: str = ""
    area_px: str = ""
    area_mm2: str = ""
    slices: str = ""
    volume_mm3: str = ""
    diameter_mm: str = ""
    reviewed: str = ""
    review: str = ""
    review_seconds: str = ""
    read_as: str = ""

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
        if _FIRST <= len(cells) < len(COLUMNS):
            cells += [""] * (len(COLUMNS) - len(cells))
        if len(cells) != len(COLUMNS) or cells[COLUMNS.index("status")] not in ("ok", "failed"):
            raise UsageError(
                f"a line has {len(cells)} cells or no status; expected the {len(COLUMNS)} columns {','.join(COLUMNS)}"
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


def boxes_cell(target: TargetResult, planes: Planes) -> str:
    """The boxes of a target, as `Row.boxes` describes them."""
    return ";".join(
        text if planes.axes is None else f"{index}:{text}"
        for index, prompts in enumerate(target.prompts)
        for text in (" ".join(f"{edge:g}" for edge in box) for box in planes.stored(prompts).boxes)
    )


# A run works on one scan while it writes another's files; both have lines for the same tables.
_APPENDING = Lock()
_HEADER = csv_line(COLUMNS)
_OLDER = tuple(csv_line(COLUMNS[:count]) for count in range(_FIRST, len(COLUMNS)))


def read_results(path: Path) -> list[Row]:
    """The rows of a results.csv, in the file's order; a last line that a kill tore off is dropped.

    Raises:
        UsageError: the file cannot be read, or is no results.csv.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror})") from error
    # What follows the last line break was being written when the run was killed.
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines(keepends=True)
    if not lines:
        return []
    header = lines[0].replace("\r\n", "\n")
    if header not in (_HEADER, *_OLDER):
        whose = "another version of lexiseg" if _HEADER.startswith(header.rstrip("\n")) else "no lexiseg"
        raise UsageError(f"{path}: it was written by {whose}; choose another folder or move it away")
    try:
        return [Row.from_line(line) for line in lines[1:]]
    except UsageError as error:
        raise UsageError(f"{path}: {error}; move it away or choose another folder") from error


def write_results(path: Path, rows: Iterable[Row]) -> Path:
    """Write all rows in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    text = _HEADER + "".join(row.to_line() for row in rows)
    return atomic_write(path, lambda file: file.write(text.encode()))


def append_results(path: Path, rows: Sequence[Row]) -> None:
    """Append one scan's rows to a table that `write_results` began, and wait until they are on the disk.

    Raises:
        UnwritableResult: the file system refused; the table ends where it ended before.
    """
    append_lines(path, [row.to_line() for row in rows])


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append whole lines to a file, and wait until they are on the disk; one thread at a time.

    Raises:
        UnwritableResult: the file system refused; the file ends where it ended before.
    """
    content = "".join(lines).encode()
    try:
        # Unbuffered: a failed write must not come back when the file is closed.
        with _APPENDING, path.open("ab", buffering=0) as handle:
            before = handle.seek(0, os.SEEK_END)
            try:
                if handle.write(content) != len(content):
                    raise OSError(None, "the disk is full")
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(before)
                raise
    except OSError as error:
        raise UnwritableResult(
            f"{path}: could not be written ({error.strerror}); free some space and run again with --resume"
        ) from error

"""A system's predictions: found by id, never by order, and on the truth's grid or refused."""

from __future__ import annotations

import csv
import io
import math
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.evaluation.settings import same_phrase
from lexiseg.evaluation.truths import Truth
from lexiseg.io.dicom.placed import is_placed, read_placed
from lexiseg.io.mask_choices import Side
from lexiseg.io.mask_grids import turn_onto
from lexiseg.io.masks import Stored, read_stored
from lexiseg.io.names import printable, safe_id, slugs
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class ReportedTarget:
    """A row of results.csv: what a system reported of one phrase in one scan.

    Attributes:
        text: the phrase.
        image: the path of its scan, as the run had it; "" where the row does not say.
        present: the decision; None where the row does not say.
        presence: 0 to 1; NaN where the row does not say.
        confidence: 0 to 1; likewise.
        error: why the scan failed; "" where it did not.
        notes: what was decided on reading and showing the scan.
        unknown: the models did not know the phrase, so that the empty mask is no finding.
    """

    text: str = ""
    image: str = ""
    present: bool | None = None
    presence: float = math.nan
    confidence: float = math.nan
    error: str = ""
    notes: str = ""
    unknown: bool = False


RESULTS = "results.csv"


def read_reported(folder: str | Path) -> dict[str, tuple[ReportedTarget, ...]]:
    """A folder's results.csv, by id; its phrases in order.

    Any program may write one: of the columns only id is needed, and text, image, present, presence, confidence,
    status, error, notes and verdict are read where they are.

    Returns:
        Nothing where there is no such file.

    Raises:
        UsageError: the file is no such table, an id has a phrase twice, or a number is none between 0 and 1; one
            line that begins with the file's name.
    """
    path = Path(folder) / RESULTS
    if not path.exists():
        return {}
    try:
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        found: dict[str, list[ReportedTarget]] = {}
        if "id" not in (table.fieldnames or ()):
            raise UsageError("it has no column id; expected what `lexiseg segment` writes")
        for row in table:
            target = _reported({key: (value or "") for key, value in row.items() if key}, table.line_num)
            earlier = found.setdefault(row["id"] or "", [])
            if target.text in [each.text for each in earlier]:
                raise UsageError(f"line {table.line_num} has the id {row['id']} again; expected each once")
            earlier.append(target)
    except (OSError, UnicodeDecodeError, csv.Error, UsageError) as error:
        reason = error if isinstance(error, UsageError) else f"it cannot be read as CSV ({error})"
        raise UsageError(f"{printable(str(path))}: {printable(str(reason))}") from error
    return {name: tuple(targets) for name, targets in found.items()}


def _reported(row: dict[str, str], line: int) -> ReportedTarget:
    decisions = {"true": True, "false": False}
    return ReportedTarget(
        text=row.get("text", ""),
        image=row.get("image", "").strip(),
        present=decisions.get(row.get("present", "").casefold()),
        presence=_share(row, "presence", line),
        confidence=_share(row, "confidence", line),
        error=printable(row.get("error", "") or "no reason given") if row.get("status") == "failed" else "",
        notes=printable(row.get("notes", "").strip()),
        unknown=row.get("verdict", "") == "unknown",
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
_RARER = (".jpg", ".jpeg", ".webp", ".dcm")
# What a run writes besides PNG and NIfTI: read where it wrote neither.
_PLACED = (".seg.dcm", ".rtstruct.dcm")
_CLINICAL = (".nrrd", *_PLACED)


# What a run notes of a target that it did not find, see `lexiseg.io.dicom.seg` and `rtstruct`.
_NOTHING = ("dicom-seg: no segment of what was not found", "rtstruct: no contour of what was not found")


def _key(name: str) -> str:
    """A file's name as it is looked for: accents composed, a known suffix in lower case."""
    suffix = next((each for each in (*_SUFFIXES, *_CLINICAL, *_RARER) if name.lower().endswith(each)), "")
    return unicodedata.normalize("NFC", name[: len(name) - len(suffix)]) + suffix


@dataclass(frozen=True)
class PredictionFolder:
    """A system's files: what `lexiseg segment` writes, or NAME.png, NAME.nii.gz and the like of another.

    Attributes:
        path: the folder.
        names: of the files in it, by what they are looked for as; several that differ in nothing else.
    """

    path: Path
    names: Mapping[str, tuple[str, ...]]

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
            listed = sorted(os.listdir(path))  # noqa: PTH208  (names alone)
        except OSError as error:
            raise UsageError(f"{label}: the folder cannot be read ({error.strerror})") from error
        names: dict[str, tuple[str, ...]] = {}
        for name in listed:
            names[_key(name)] = (*names.get(_key(name), ()), name)
        return cls(path, names)

    def mask(self, id: str) -> Path | None:
        """NAME_mask.*, or else NAME.*, of an id; None where there is neither.

        Raises:
            UnreadableScan: there are two of them; one line.
        """
        stem = safe_id(id)
        own = self._one(f"{stem}_mask") or self._clinical(f"{stem}_mask") or self._one(f"{stem}_mask", _RARER)
        # NAME.jpg may well be the scan, so it is the last to be taken for a mask.
        return own or self._one(stem) or self._clinical(stem) or self._one(stem, _RARER)

    def phrase_mask(self, id: str, slug: str) -> Path | None:
        """NAME_mask_SLUG.*: the mask of one of several phrases; None where there is none."""
        stem = f"{safe_id(id)}_mask_{slug}"
        return self._one(stem) or self._one(stem, (".nrrd",))

    def placed(self, id: str) -> Path | None:
        """NAME_mask.seg.dcm or .rtstruct.dcm, which hold all phrases; None where there is neither."""
        return next(filter(None, (self._one(f"{safe_id(id)}_mask", (each,)) for each in _PLACED)), None)

    def labels(self, id: str) -> Path | None:
        """The label map of several phrases: NAME_labels.png, or a volume's NAME_mask.*."""
        stem = safe_id(id)
        return self._one(f"{stem}_labels") or self._one(f"{stem}_mask") or self._one(f"{stem}_mask", (".nrrd",))

    def saliency(self, id: str) -> Path | None:
        """NAME_saliency.*, which `lexiseg segment --save-stages` writes where one phrase is asked."""
        return self._one(f"{safe_id(id)}_saliency")

    def others(self, ids: Iterable[str]) -> list[str]:
        """Names of masks that belong to none of the ids, sorted."""
        wanted = {safe_id(each) + "_mask" for each in ids}
        found: list[str] = []
        for key, names in self.names.items():
            stem = next((key[: -len(suffix)] for suffix in _SUFFIXES if key.endswith(suffix)), "")
            if stem.endswith("_mask") and stem not in wanted:
                found += names
        return sorted(found)

    def _clinical(self, stem: str) -> Path | None:
        return next(filter(None, (self._one(stem, (each,)) for each in _CLINICAL)), None)

    def _one(self, stem: str, suffixes: Sequence[str] = _SUFFIXES) -> Path | None:
        found = [name for suffix in suffixes for name in self.names.get(stem + suffix, ())]
        if len(found) > 1:
            raise UnreadableScan(
                f"{printable(found[0])} and {printable(found[1])} are both there; expected one of them"
            )
        return self.path / found[0] if found else None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a system answered.

    Attributes:
        mask: bool, on the truth's grid.
        found: its decision; whether the mask holds anything, where no table says.
        presence: 0 to 1, or NaN.
        confidence: 0 to 1, or NaN.
        saliency: on the truth's grid; None where there is none.
        notes: what was decided on reading its mask.
        run_notes: what the system noted of the scan.
        unknown: the system did not know the phrase.
    """

    mask: BoolArray
    found: bool
    presence: float = math.nan
    confidence: float = math.nan
    saliency: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    run_notes: str = ""
    unknown: bool = False


def read_prediction(
    folder: PredictionFolder,
    id: str,
    truth: Truth,
    *,
    reported: Sequence[ReportedTarget] = (),
    text: str | None = None,
    labels: Sequence[int] = (),
    side: Side = Side.maps,
) -> Prediction | None:
    """Read an id's mask and, where one phrase was asked and there is one, its saliency.

    Args:
        folder: the system's.
        id: the manifest's.
        truth: whose grid it has to have.
        reported: the id's rows of results.csv.
        text: the phrase whose mask is wanted, where several were asked; any of them when None.
        labels: values that are the target, of a label map whose phrases no results.csv names, and numbers of it in a
            DICOM object of several, of which none has the phrase's name.
        side: what is known of the masks that its mask lies among.

    Returns:
        None where there is no mask.

    Raises:
        UnreadableScan: it is damaged, of several values, of another size or place, or there are two; one line.
    """
    several = len(reported) > 1
    path, notes, chosen = None, [], labels
    if text is not None and reported:
        place = place_of_phrase(reported, text)
        if place is None:
            return None
        if several:
            chosen = ()
            path = folder.phrase_mask(id, slugs([target.text for target in reported])[place])
            # A DICOM object has each phrase whole.
            path = path or folder.placed(id)
            if path is None and folder.labels(id) is not None:
                path, chosen, side = folder.labels(id), (place + 1,), Side.maps
                notes.append("of the label map, in which phrases take pixels from one another")
        reported = [reported[place]]
    path = path or folder.mask(id)
    asked = reported[0].text if len(reported) == 1 else text
    if path is None:
        if not nothing_was_written(reported):
            return None
        mask: BoolArray = np.zeros(truth.shape, np.bool_)
        notes.append("no file: the run found nothing, of which no DICOM object is written")
    elif is_placed(path):
        mask, more = _of_placed(path, truth, labels, asked, absent=nothing_was_written(reported))
        notes += more
    else:
        stored = read_stored(path)
        decided = stored.decided(chosen, side)
        mask, note = onto_truth(decided.mask, stored, truth)
        notes += [*decided.notes, note]
    presence, confidence = _evidence(reported)
    decisions = [target.present for target in reported if target.present is not None]
    return Prediction(
        mask=mask,
        found=any(decisions) if decisions else bool(mask.any()),
        presence=presence,
        confidence=confidence,
        saliency=_saliency(None if several else folder.saliency(id), truth),
        notes=tuple(filter(None, notes)),
        run_notes="; ".join(dict.fromkeys(target.notes for target in reported if target.notes)),
        unknown=any(target.unknown for target in reported),
    )


def nothing_was_written(reported: Sequence[ReportedTarget]) -> bool:
    """Whether a run said that it found nothing, and wrote no DICOM object of it."""
    return bool(reported) and all(
        target.present is False and any(told in target.notes for told in _NOTHING) for target in reported
    )


def _of_placed(
    path: Path, truth: Truth, numbers: Sequence[int], text: str | None, *, absent: bool
) -> tuple[BoolArray, list[str]]:
    """A DICOM object's target on the truth's grid, and notes."""
    placed = read_placed(path)
    if absent and text is not None and not placed.has(text):
        return np.zeros(truth.shape, np.bool_), [f"no {placed.PART}: the run found nothing"]
    # Of one target, and of one of that name, nobody needs to say which is meant.
    chosen = () if len(placed.labels) == 1 or (text is not None and placed.has(text)) else numbers
    grid = truth.geometry or truth.place
    mask = placed.onto(placed.numbers(chosen, text), truth.shape, grid, series=truth.series)
    return mask, list(placed.notes)


def place_of_phrase(reported: Sequence[ReportedTarget], text: str) -> int | None:
    """Which of an id's rows is of a phrase, whatever its case and blanks; None where none is."""
    wanted = same_phrase(text)
    return next((k for k, target in enumerate(reported) if same_phrase(target.text) == wanted), None)


def onto_truth(values: NDArray[Any], stored: Stored, truth: Truth) -> tuple[NDArray[Any], str]:
    """A file's values on the truth's grid, and what was done to bring them there.

    Raises:
        UnreadableScan: the file has another size or, of volumes, another place; says both, on one line.
    """
    name, true_name = printable(stored.path.name), printable(truth.file.name)
    placed = stored.geometry is not None and truth.geometry is not None
    if stored.geometry is not None and truth.geometry is not None:
        try:
            turn = turn_onto(stored.geometry, truth.geometry)
            return turn.apply(values), turn.note
        except UnreadableScan as error:
            if values.shape == truth.shape:
                raise UnreadableScan(
                    f"{name} lies {stored.geometry.distance(truth.geometry):.3g} mm away from the truth {true_name}: "
                    f"its affine is {_affine(stored.geometry)}, the truth's {_affine(truth.geometry)}; "
                    "expected the same"
                ) from error
    if placed or values.shape != truth.shape:
        hint = ""
        if truth.exif != 1 and values.shape == truth.shape[::-1]:
            hint = f" (EXIF orientation {truth.exif} turns the scan: one of them was drawn on the unturned pixels)"
        raise UnreadableScan(
            f"{name} has {_size(values.shape)}, the truth {true_name} {_size(truth.shape)}{hint}; expected the same"
        )
    return values, ""


def _saliency(path: Path | None, truth: Truth) -> NDArray[Any] | None:
    if path is None:
        return None
    stored = read_stored(path)
    return onto_truth(stored.values, stored, truth)[0]


def _evidence(reported: Sequence[ReportedTarget]) -> tuple[float, float]:
    """Presence and confidence; of several phrases taken together the largest presence, and no confidence."""
    if len(reported) == 1:
        return reported[0].presence, reported[0].confidence
    known = [target.presence for target in reported if not math.isnan(target.presence)]
    return max(known, default=math.nan), math.nan


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + (" pixels" if len(shape) == 2 else " voxels")


def _affine(grid: Geometry) -> str:
    return "; ".join(" ".join(f"{value:.4g}" for value in row) for row in grid.affine[:3])

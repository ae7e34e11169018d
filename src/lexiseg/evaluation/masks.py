"""A system's answer for a scan, on the truth's grid or refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UnreadableScan
from lexiseg.evaluation.metrics.boxes import Box
from lexiseg.evaluation.reading import Answer, PredictionFolder
from lexiseg.io.formats import IMAGE_SUFFIXES, scan_suffix
from lexiseg.io.masks import SAME_PLACE_MM, Stored, read_stored
from lexiseg.io.names import printable
from lexiseg.io.read import read_scan
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of a scan: a mask, boxes, or the knowledge that there is nothing to find.

    Attributes:
        shape: the grid, (H, W) or (D, H, W).
        present: whether there is anything to find.
        file: what the grid was read from.
        mask: bool, of that shape; None where there is none.
        boxes: x0 y0 x1 y1 in pixels, end-exclusive; none where the target is absent; None where unknown.
        spacing: mm along each axis; None where no file says.
        geometry: where a volume lies; None for images.
    """

    shape: tuple[int, ...]
    present: bool
    file: Path
    mask: BoolArray | None = None
    boxes: tuple[Box, ...] | None = None
    spacing: tuple[float, ...] | None = None
    geometry: Geometry | None = None


def read_truth(row: ManifestRow, *, has_boxes: bool = False, absent: Sequence[str] = ()) -> Truth:
    """Read a manifest row's truth: its mask, else its boxes, else that its label means absence.

    Spacing comes from a NIfTI mask, or from the scan where that is DICOM or NIfTI; plain images have none.

    Args:
        row: of the manifest.
        has_boxes: whether the manifest has boxes at all, so that an empty mask is known to have none.
        absent: labels of scans that hold no target.

    Raises:
        UnreadableScan: the row is unusable or says nothing, or a file cannot be read; one line.
    """
    if row.error:
        raise UnreadableScan(row.error)
    known_absent = row.label in absent and row.label != ""
    if row.mask is None:
        if not row.boxes and not known_absent:
            raise UnreadableScan("the manifest has neither a mask nor a box of it; nothing to compare with")
        scan = read_scan(row.image)
        return Truth(
            shape=scan.shape,
            present=bool(row.boxes),
            file=row.image,
            boxes=row.boxes if isinstance(scan, Image) else None,
            spacing=scan.spacing,
            geometry=scan.geometry if isinstance(scan, Volume) else None,
        )
    stored = read_stored(row.mask)
    mask = stored.inside()
    spacing = stored.spacing
    if stored.geometry is None and scan_suffix(row.image) not in IMAGE_SUFFIXES and row.image.is_file():
        scan = read_scan(row.image)
        if scan.shape != mask.shape:
            raise UnreadableScan(f"the true mask has shape {mask.shape}, its scan {scan.shape}; expected the same")
        spacing = scan.spacing
    present = bool(mask.any())
    boxes = row.boxes or (() if has_boxes and not present else None)
    return Truth(
        shape=mask.shape,
        present=present,
        file=row.mask,
        mask=mask,
        boxes=boxes if mask.ndim == 2 else None,
        spacing=spacing,
        geometry=stored.geometry,
    )


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a system answered.

    Attributes:
        mask: bool, on the truth's grid.
        found: its decision; whether the mask holds anything, where no table says.
        presence: 0 to 1, or NaN.
        confidence: 0 to 1, or NaN.
        saliency: on the truth's grid; None where there is none.
    """

    mask: BoolArray
    found: bool
    presence: float = math.nan
    confidence: float = math.nan
    saliency: NDArray[Any] | None = None


def read_prediction(
    folder: PredictionFolder,
    id: str,
    truth: Truth,
    *,
    answers: Sequence[Answer] = (),
    text: str | None = None,
) -> Prediction | None:
    """Read an id's mask and, where one phrase was asked and there is one, its saliency.

    Args:
        folder: the system's.
        id: the manifest's.
        truth: whose grid it has to have.
        answers: the id's rows of results.csv.
        text: the phrase whose mask is wanted, where several were asked; any of them when None.

    Returns:
        None where there is no mask.

    Raises:
        UnreadableScan: it is damaged, not binary, of another size or place, or there are two; one line.
    """
    several = len(answers) > 1
    label = None
    if text is not None and answers:
        phrases = [answer.text for answer in answers]
        wanted = " ".join(text.split()).casefold()
        place = next((k for k, phrase in enumerate(phrases) if phrase.casefold() == wanted), None)
        if place is None:
            return None
        label = place + 1 if several else None
        answers = [answers[place]]
    path = folder.mask(id) if label is None else folder.labels(id)
    if path is None:
        return None
    stored = read_stored(path, indices=label is not None)
    mask = stored.binary() if label is None else stored.inside(label)
    refuse_other_grid(stored, truth)
    presence, confidence = _evidence(answers)
    decisions = [answer.present for answer in answers if answer.present is not None]
    return Prediction(
        mask=mask,
        found=any(decisions) if decisions else bool(mask.any()),
        presence=presence,
        confidence=confidence,
        saliency=_saliency(None if several else folder.saliency(id), truth),
    )


def refuse_other_grid(stored: Stored, truth: Truth) -> None:
    """Pass where a file has the truth's size and, of volumes, its place.

    Raises:
        UnreadableScan: it has not; says both, on one line.
    """
    name, true_name = printable(stored.path.name), printable(truth.file.name)
    if stored.values.shape != truth.shape:
        raise UnreadableScan(
            f"{name} has {_size(stored.values.shape)}, the truth {true_name} {_size(truth.shape)}; expected the same"
        )
    if stored.geometry is None or truth.geometry is None:
        return
    distance = stored.geometry.distance(truth.geometry)
    # Not `distance > ...`: it is NaN where one of the affines is.
    if not distance <= SAME_PLACE_MM:
        raise UnreadableScan(
            f"{name} lies {distance:.3g} mm away from the truth {true_name}: its affine is "
            f"{_affine(stored.geometry)}, the truth's {_affine(truth.geometry)}; expected the same"
        )


def _saliency(path: Path | None, truth: Truth) -> NDArray[Any] | None:
    if path is None:
        return None
    stored = read_stored(path)
    refuse_other_grid(stored, truth)
    return stored.values


def _evidence(answers: Sequence[Answer]) -> tuple[float, float]:
    """Presence and confidence; of several phrases taken together the largest presence, and no confidence."""
    if len(answers) == 1:
        return answers[0].presence, answers[0].confidence
    known = [answer.presence for answer in answers if not math.isnan(answer.presence)]
    return max(known, default=math.nan), math.nan


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) + (" pixels" if len(shape) == 2 else " voxels")


def _affine(grid: Geometry) -> str:
    return "; ".join(" ".join(f"{value:.4g}" for value in row) for row in grid.affine[:3])

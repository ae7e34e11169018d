"""What the headers of DICOM files say of each of their frames: where it lies, and what tells it from others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.io.dicom.fields import integer_of, macros_of, numbers_of, text_of, value_of
from lexiseg.io.dicom.files import DicomInstances, Frame, read_header, refuse_no_image
from lexiseg.values.scans import Scan

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CENTIMETRES = 3
_PROJECTED = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")
_SQUARE = 1e-2
_LETTERS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""Directions of the body in RAS+; H is the head and F the feet."""
Vector = tuple[float, ...]

# What may tell volumes of one place apart, the surest first, and its names in functional groups.
SEPARATORS: dict[str, tuple[str, ...]] = {
    "TemporalPositionIdentifier": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "EchoTime": ("EchoTime", "EffectiveEchoTime"),
    "EchoNumbers": ("EchoNumbers",),
    "AcquisitionNumber": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "TriggerTime": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "DiffusionBValue": ("DiffusionBValue",),
    "DiffusionGradientOrientation": ("DiffusionGradientOrientation",),
    "InversionTime": ("InversionTime", "InversionTimes"),
    "StackID": ("StackID",),
    "ImageType": ("ImageType", "FrameType"),
    "ComplexImageComponent": ("ComplexImageComponent",),
    "AcquisitionTime": ("AcquisitionTime",),
}
_PLACED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate")
_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "InstanceNumber",
    "ConcatenationUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SequenceOfUltrasoundRegions",
    *_PLACED,
    *_IDENTITY,
    *(name for names in SEPARATORS.values() for name in names),
)


@dataclass(frozen=True, eq=False, slots=True)
class FrameRecord:
    """One frame as its header places it.

    Attributes:
        frame: the file, and which of its frames.
        position: (3,) mm, LPS, of the first pixel's centre; None where the header does not say.
        orientation: (6,) the directions in which columns and rows are counted, LPS; None where it does not say.
        spacing: (row, column) mm; None where it does not say.
        number: Instance Number, or the frame's place in its file; None where there is neither.
        told: by `SEPARATORS`, what the header says; only what it does say.
    """

    frame: Frame
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    number: int | None
    told: dict[str, str]


@dataclass(frozen=True, eq=False, slots=True)
class DicomHeader:
    """One file.

    Attributes:
        path: the file.
        instance: SOP Instance UID.
        series: Series Instance UID; "" where there is none.
        series_number, description: of the series; None and "" where there is none.
        modality: such as "CT".
        frame_of_reference: a UID; "" where nobody knows.
        patient: what tells one patient from another; never shown.
        rows, columns, samples: of a frame.
        pixel_spacing: of the whole file, see `lexiseg.io.dicom.headers.pixel_spacing`.
        localizer: whether it is an overview for planning.
        mosaic: whether one picture holds the slices of a volume (Siemens).
        concatenation: UID of the object that this file is a part of; "" for a whole one.
        count: how many frames the file claims to have.
        frames: each frame that is described by itself; one for all where none is.
    """

    path: Path
    instance: str
    series: str
    series_number: int | None
    description: str
    modality: str
    frame_of_reference: str
    patient: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    pixel_spacing: tuple[tuple[float, float] | None, str]
    localizer: bool
    mosaic: bool
    concatenation: str
    count: int
    frames: tuple[FrameRecord, ...]


def dicom_header(path: Path) -> DicomHeader:
    """What a file's header says, its pixels left alone.

    Raises:
        UnreadableScan: it is no image; the reason alone.  pydicom may raise anything on damaged files.
    """
    return header_of(read_header(path, _tags()), path)


def patient_of(scan: Scan) -> str:
    """What tells the patient of a scan from others: the ID, else name and birth date; never to be shown or written.

    "" where its files do not say, and of a scan that was read from no DICOM files.
    """
    files = scan.header.files if isinstance(scan.header, DicomInstances) else ()
    if not files:
        return ""
    dataset = read_header(files[0], list(_IDENTITY))
    own, *named = (text_of(dataset, name).strip() for name in _IDENTITY)
    return own or "\0".join(named).strip("\0")


@cache
def _tags() -> list[Any]:
    """`_TAGS` as pydicom looks them up, found once for many files."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return [Tag(tag_for_keyword(name) or 0) for name in _TAGS]


@cache
def _names() -> dict[int, tuple[str, str]]:
    """Of each tag that places a frame or tells it apart, its keyword and the canonical one."""
    from pydicom.datadict import tag_for_keyword

    wanted = {name: name for name in _PLACED} | {
        name: canonical for canonical, names in SEPARATORS.items() for name in names
    }
    return {tag_for_keyword(name) or 0: (name, canonical) for name, canonical in wanted.items()}


def header_of(dataset: Dataset, path: Path) -> DicomHeader:
    """See `dicom_header`, of a dataset."""
    refuse_no_image(dataset)
    kinds = text_of(dataset, "ImageType").upper().split("\\")
    return DicomHeader(
        path=path,
        instance=text_of(dataset, "SOPInstanceUID"),
        series=text_of(dataset, "SeriesInstanceUID"),
        series_number=integer_of(dataset, "SeriesNumber"),
        description=str(value_of(dataset, "SeriesDescription") or "").strip(),
        modality=text_of(dataset, "Modality").upper(),
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
        patient=tuple(text_of(dataset, name) for name in _IDENTITY),
        rows=integer_of(dataset, "Rows") or 0,
        columns=integer_of(dataset, "Columns") or 0,
        samples=integer_of(dataset, "SamplesPerPixel") or 1,
        pixel_spacing=pixel_spacing(dataset),
        localizer="LOCALIZER" in kinds,
        mosaic="MOSAIC" in kinds,
        concatenation=text_of(dataset, "ConcatenationUID"),
        count=max(1, integer_of(dataset, "NumberOfFrames") or 1),
        frames=tuple(_frames(dataset, path)),
    )


def _frames(dataset: Dataset, path: Path) -> Iterator[FrameRecord]:
    groups = value_of(dataset, "PerFrameFunctionalGroupsSequence")
    # A header may claim any number: no more are made than it describes.
    count = 1 if groups is None else min(max(1, integer_of(dataset, "NumberOfFrames") or 1), len(groups))
    top = _found([dataset])
    shared = {**top, **_found(macros_of(value_of(dataset, "SharedFunctionalGroupsSequence"), 0))}
    number = integer_of(dataset, "InstanceNumber")
    for index in range(count):
        own = {**shared, **_found(macros_of(groups, index))} if groups is not None else shared
        yield FrameRecord(
            frame=Frame(path, index),
            position=_vector(own.get("ImagePositionPatient"), 3),
            orientation=_vector(own.get("ImageOrientationPatient"), 6),
            spacing=_vector(own.get("PixelSpacing"), 2),
            number=index if count > 1 else number,
            told={name: own[name] for name in SEPARATORS if name in own},
        )


def _found(datasets: Any) -> dict[str, Any]:
    """By canonical name, what these datasets say; a later one goes before an earlier one."""
    found: dict[str, Any] = {}
    names = _names()
    for dataset in datasets:
        # By what is there: most of what is looked for is not.
        for tag in dataset.keys():  # noqa: SIM118  (a Dataset iterates values)
            if tag not in names:
                continue
            keyword, name = names[tag]
            if name in _PLACED:
                found[name] = numbers_of(dataset, keyword)
            elif text := text_of(dataset, keyword):
                found[name] = text
    return found


def _vector(numbers: Any, count: int) -> Vector | None:
    return numbers if numbers is not None and len(numbers) == count else None


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    """(row, column) spacing in mm, with a note on where it is from when that matters.

    Pixel Spacing first; then the detector's (without the magnification known, so larger than in the patient);
    then, for ultrasound, the one calibrated region's physical deltas.

    Args:
        dataset: a single-frame image's dataset.

    Returns:
        The spacing, None where the file does not say or says nonsense; and a note, "" for Pixel Spacing.
    """
    spacing = _positive(value_of(dataset, "PixelSpacing"))
    if spacing:
        return spacing, ""
    for keyword in _PROJECTED:
        spacing = _positive(value_of(dataset, keyword))
        if spacing:
            return spacing, f"{keyword}: at the detector, not in the patient"
    regions = value_of(dataset, "SequenceOfUltrasoundRegions") or []
    if len(regions) == 1:
        region = regions[0]
        units = (integer_of(region, "PhysicalUnitsXDirection"), integer_of(region, "PhysicalUnitsYDirection"))
        deltas = _positive([value_of(region, "PhysicalDeltaY"), value_of(region, "PhysicalDeltaX")], size=True)
        if units == (_CENTIMETRES, _CENTIMETRES) and deltas:
            return (10 * deltas[0], 10 * deltas[1]), "ultrasound region calibration"
    return None, ""


def directions_of(dataset: Dataset) -> NDArray[np.float64] | None:
    """Which way of the body a picture's column and row indices grow; None where the header does not say.

    Image Orientation (Patient) says it, else the principal letters of Patient Orientation (PS3.3 C.7.6.1.1.1). The
    letters of a mammogram and of an upright lateral view do not count: they hang either way round.

    Args:
        dataset: a single-frame image's dataset.

    Returns:
        (2, 3) unit vectors, RAS+.
    """
    orientation = next(_frames(dataset, Path())).orientation
    if orientation is not None:
        return _at_right_angles(np.array(orientation, np.float64).reshape(2, 3) * (-1, -1, 1))
    letters = value_of(dataset, "PatientOrientation") or ()
    if isinstance(letters, str) or len(letters) != 2 or text_of(dataset, "AnatomicalOrientationType") == "QUADRUPED":
        return None
    right, down = (str(letter).strip().upper()[:1] for letter in letters)
    lateral = right in ("A", "P") and down == "F"
    if lateral or text_of(dataset, "Modality").upper() == "MG" or not {right, down} <= _LETTERS.keys():
        return None
    return _at_right_angles(np.array([_LETTERS[right], _LETTERS[down]], np.float64))


def _at_right_angles(directions: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Two directions as unit vectors; None where they are no such pair."""
    sizes = np.linalg.norm(directions, axis=1, keepdims=True)
    if not np.isfinite(sizes).all() or sizes.min() <= 0:
        return None
    found: NDArray[np.float64] = directions / sizes
    return found if abs(float(found[0] @ found[1])) < _SQUARE else None


def _positive(values: object, *, size: bool = False) -> tuple[float, float] | None:
    """Two lengths above 0, or their sizes; None of anything else."""
    try:
        row, column = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    if size:
        row, column = abs(row), abs(column)
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None

"""The DICOM instances that a scan was read from, for objects that refer to them: what they are, and where they lie."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import FormatMismatch
from lexiseg.io.dicom.fields import value_of
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.dicom.objects import decimal, is_date
from lexiseg.io.dicom.pseudonyms import uid_of
from lexiseg.io.mask_grids import SAME_PLACE
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LPS = np.array([-1.0, -1.0, 1.0])
# Of the patient and the study, what an object must have, be it empty (PS3.3 C.7.1.1, C.7.2.1).
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
}


@dataclass(frozen=True)
class SourceFrame:
    """One frame of one instance.

    Attributes:
        sop_class: of the instance.
        sop_instance: likewise.
        series: its Series Instance UID.
        number: of the frame, from 1; None in an instance of one frame.
    """

    sop_class: str
    sop_instance: str
    series: str
    number: int | None = None


@dataclass(frozen=True)
class Placed:
    """Where one slice lies, as decimal strings of at most 16 bytes.

    Attributes:
        position: Image Position (Patient): the centre of the first pixel, LPS mm.
        orientation: Image Orientation (Patient): the directions along a row, and down a column.
        spacing: Pixel Spacing: mm between rows, and between columns.
        thickness: Slice Thickness; None where nobody knows.
    """

    position: tuple[str, ...]
    orientation: tuple[str, ...]
    spacing: tuple[str, ...]
    thickness: str | None = None


@dataclass(frozen=True, eq=False)
class Sources:
    """The instances that a scan was read from.

    Attributes:
        header: of the first, without what cannot be parsed: for the patient, the study and dates.
        frames: one for each slice of a volume, one of an image; None of a slice that no file holds.
        placed: where each of them lies; None of a scan that has no place, such as a cine or an X-ray.
        frame_of_reference: its UID; "" without a place.
        notes: what was decided.
    """

    header: Dataset
    frames: tuple[SourceFrame | None, ...]
    placed: tuple[Placed, ...] | None
    frame_of_reference: str
    notes: Mapping[str, str]

    @property
    def instances(self) -> dict[str, list[SourceFrame]]:
        """Each instance once, without frame numbers' repeats, by series; in the order of the slices."""
        found: dict[str, dict[str, SourceFrame]] = {}
        for frame in self.frames:
            if frame is not None:
                found.setdefault(frame.series, {}).setdefault(frame.sop_instance, frame)
        return {series: list(each.values()) for series, each in found.items()}


def no_dicom(scan: Scan) -> str:
    """Why DICOM objects cannot refer to a scan; "" where they can."""
    return "" if isinstance(scan.header, DicomInstances) else "it was read from no DICOM files to refer to"


def sources_of(scan: Scan) -> Sources:
    """Read the headers of a scan's files again.

    Positions, orientation and spacing are the files' own strings where those place the slices as the scan's affine
    does, to a tenth of a pixel; else they are written from the affine.

    Raises:
        FormatMismatch: a file is gone, or has no UID to refer to; the reason alone.
    """
    instances: DicomInstances = scan.header
    try:
        headers = dict(zip(instances.files, map(_parsed, instances.headers()), strict=True))
    except OSError as error:
        raise FormatMismatch(f"its files cannot be read again ({error.strerror})") from error
    if not headers:
        raise FormatMismatch("it has no files")
    first = next(iter(headers.values()))
    frames = tuple(None if each is None else _frame(headers[each.file], each.number) for each in instances.frames)
    notes: dict[str, str] = {}
    geometry = scan.geometry if isinstance(scan, Volume) else None
    placed: tuple[Placed, ...] | None
    stated = [None if each is None else _stated(headers[each.file], each.number) for each in instances.frames]
    if geometry is None:
        placed = None if stated[0] is None else (stated[0],)
    elif geometry.time or not geometry.oriented:
        placed = None
    else:
        own = _of_geometry(geometry)
        pairs = list(zip(stated, own, strict=True))
        agree = all(there is None or _same_place(there, here) for there, here in pairs)
        placed = tuple(there if agree and there is not None else here for there, here in pairs)
    frame_of_reference = ""
    if placed is not None:
        frame_of_reference = str(value_of(first, "FrameOfReferenceUID") or "")
        if not frame_of_reference:
            frame_of_reference = uid_of(hashlib.sha256(f"frame:{frames[0]}{frames[-1]}".encode()).digest())
            notes["frame_of_reference"] = "the files name none: one of their UIDs is made"
    return Sources(_completed(first), frames, placed, frame_of_reference, notes)


def slice_origins(geometry: Geometry) -> NDArray[np.float64]:
    """float64 (D, 3): the centre of each slice's first voxel, LPS mm; also where distances are not equal."""
    step = geometry.affine[:3, 2]
    along = np.arange(geometry.shape[0], dtype=np.float64)
    if geometry.positions is not None:
        along = np.asarray(geometry.positions) / np.linalg.norm(step)
    origins: NDArray[np.float64] = (geometry.affine[:3, 3] + along[:, None] * step) * _LPS
    return origins


def _parsed(header: Dataset) -> Dataset:
    """A header without the elements that cannot be parsed, which would end the writing later."""
    for tag in list(header.keys()):
        try:
            header[tag].value  # noqa: B018  (parses it)
        # The converters raise anything at all.
        except Exception:  # noqa: BLE001
            del header[tag]
    return header


def _completed(header: Dataset) -> Dataset:
    """A header with what every object must say of patient and study; empty where the file says nothing."""
    for keyword in _TYPE_2:
        value = value_of(header, keyword)
        text = "" if value is None else str(value)
        if keyword.endswith("Date") and not is_date(text):
            text = ""
        if keyword.endswith("Time") and not re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", text):
            text = ""
        if keyword == "PatientSex" and text not in ("M", "F", "O"):
            text = ""
        setattr(header, keyword, text)
    for element in header:
        # A name remembers the character set that it was written in.
        if element.VR == "PN" and element.value:
            several = element.VM > 1
            element.value = [str(each) for each in element.value] if several else str(element.value)
    if not value_of(header, "StudyInstanceUID"):
        header.StudyInstanceUID = uid_of(hashlib.sha256(f"study:{header.SOPInstanceUID}".encode()).digest())
    return header


def _frame(header: Dataset, number: int) -> SourceFrame:
    instance, kind = value_of(header, "SOPInstanceUID"), value_of(header, "SOPClassUID")
    if not instance or not kind:
        raise FormatMismatch("its files have no SOP Instance UID, by which it could be referred to")
    series = value_of(header, "SeriesInstanceUID") or uid_of(hashlib.sha256(f"series:{instance}".encode()).digest())
    several = "PerFrameFunctionalGroupsSequence" in header or int(value_of(header, "NumberOfFrames") or 1) > 1
    return SourceFrame(str(kind), str(instance), str(series), number + 1 if several else None)


def _stated(header: Dataset, number: int) -> Placed | None:
    """Where a frame's header places it; None where it does not say, or says no numbers."""
    groups = []
    for keyword, at in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        items = value_of(header, keyword)
        if items is not None and at < len(items):
            groups.append(items[at])

    def numbers(keyword: str, count: int) -> tuple[str, ...] | None:
        holders = [value_of(group, _MACROS[keyword]) for group in groups]
        for holder in [*(each[0] for each in holders if each), header]:
            value = value_of(holder, keyword)
            if value is None:
                continue
            texts = tuple(_ds(each) for each in (value if count > 1 else [value]))
            if len(texts) == count and all(text for text in texts):
                return texts
        return None

    position, orientation = numbers("ImagePositionPatient", 3), numbers("ImageOrientationPatient", 6)
    spacing, thickness = numbers("PixelSpacing", 2), numbers("SliceThickness", 1)
    if position is None or orientation is None or spacing is None:
        return None
    return Placed(position, orientation, spacing, thickness[0] if thickness else None)


def _ds(value: Any) -> str:
    """A decimal string as the file has it; "" of what is no finite number, or too long for its kind."""
    text = str(getattr(value, "original_string", value)).strip()
    try:
        if not np.isfinite(float(text)):
            return ""
    except ValueError:
        return ""
    return text if len(text) <= 16 else decimal(float(text))


def _of_geometry(geometry: Geometry) -> list[Placed]:
    column, row, _ = (geometry.affine[:3, axis] * _LPS for axis in range(3))
    spacing = geometry.spacing
    assert spacing is not None
    orientation = tuple(decimal(each) for each in (*(column / spacing[2]), *(row / spacing[1])))
    shown = (decimal(spacing[1]), decimal(spacing[2]))
    thickness = decimal(spacing[0])
    return [Placed(tuple(map(decimal, origin)), orientation, shown, thickness) for origin in slice_origins(geometry)]


def _same_place(one: Placed, other: Placed) -> bool:
    """Whether two places of a slice's first pixels are one, to a tenth of a pixel over 1000 of them."""

    def axes(placed: Placed) -> NDArray[np.float64]:
        position, orientation, spacing = (
            np.array(texts, np.float64) for texts in (placed.position, placed.orientation, placed.spacing)
        )
        return np.stack([position, orientation[:3] * spacing[1] * 1000, orientation[3:] * spacing[0] * 1000])

    limit = SAME_PLACE * min(float(text) for text in one.spacing)
    return bool(np.abs(axes(one) - axes(other)).max() <= limit)

"""DICOM RT structure sets: one object a scan, one region of interest a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import FormatMismatch
from lexiseg.io.dicom.codes import Code, codes_of
from lexiseg.io.dicom.contours import Polygon, outlines
from lexiseg.io.dicom.objects import (
    ALGORITHM,
    UTF8,
    content_of,
    content_uid,
    decimal,
    made_at,
    refer_to,
    series_number,
    taken_over,
    targets_of,
    text_of,
    weights_of,
)
from lexiseg.io.dicom.sources import Placed, SourceFrame, Sources, no_dicom, sources_of
from lexiseg.io.pictures import PALETTE
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.values.scans import Scan, Volume
from lexiseg.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
# A retired class, by which structure sets name a study all the same (PS3.3 C.8.8.5).
_STUDY = "1.2.840.10008.3.1.2.3.1"
_DIGITS = 6
_LONGEST_LABEL = 16


class RtstructWriter:
    """Writes an RT Structure Set: closed planar contours in the patient's coordinates.

    - A contour encloses the centres of exactly the mask's voxels, in each slice that has any: see
      `lexiseg.io.dicom.contours.outlines`. Holes are joined to their outline by keyholes.
    - Coordinates are rounded to 0.000001 mm, so that every decimal string has at most 16 bytes.
    - Every source instance is referred to, and each contour names its slice's.
    - UIDs and dates follow the rules of DICOM SEG: equal masks are equal files.
    """

    suffix = ".rtstruct.dcm"

    def why_not(self, scan: Scan) -> str:
        """See `Writer.why_not`."""
        if reason := no_dicom(scan):
            return reason
        if isinstance(scan, Volume) and not scan.geometry.oriented:
            return "its frames have no place in the patient"
        return ""

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """See `Writer.files`; nothing where no target was found."""
        missing = [item.name for item in segments.items if not item.mask.any()]
        if missing:
            notes["rtstruct"] = f"no contour of what was not found: {', '.join(missing)}"
        if not segments.found:
            return
        sources = sources_of(segments.scan)
        if sources.placed is None:
            raise FormatMismatch("its files do not say where it lies in the patient")
        notes.update(sources.notes)
        dataset = structure_set(segments, sources, options, notes)
        if options.pseudonyms is not None:
            options.pseudonyms.apply(dataset)
        yield "mask", content_of(dataset)


def structure_set(segments: Segments, sources: Sources, options: WriteOptions, notes: dict[str, str]) -> Dataset:
    """The object of a scan's targets.

    Args:
        segments: of which at least one was found.
        sources: of their scan, with places.
        options: see `WriteOptions`.
        notes: gets what was left out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian

    dataset: Any = Dataset()
    taken_over(sources.header, dataset)
    date, time = made_at(sources.header)
    dataset.SpecificCharacterSet = UTF8
    dataset.SOPClassUID = _STRUCTURE_SET
    dataset.SOPInstanceUID = content_uid(segments, sources, options, "structures")
    dataset.InstanceCreationDate = dataset.StructureSetDate = date
    dataset.InstanceCreationTime = dataset.StructureSetTime = time
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = content_uid(segments, sources, options, "structures' series")
    dataset.SeriesNumber = series_number(sources.header) + 1
    dataset.SeriesDescription = f"{ALGORITHM} contours"
    dataset.OperatorsName = ""
    dataset.Manufacturer = dataset.ManufacturerModelName = ALGORITHM
    dataset.SoftwareVersions = __version__
    dataset.InstanceNumber = 1
    dataset.FrameOfReferenceUID = sources.frame_of_reference
    dataset.PositionReferenceIndicator = sources.header.get("PositionReferenceIndicator") or ""
    dataset.StructureSetLabel = text_of(ALGORITHM, _LONGEST_LABEL)
    dataset.StructureSetDescription = _made_by(segments)
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(dataset, sources)]
    found = segments.found
    dataset.StructureSetROISequence = [_roi(item, k, sources) for k, item in enumerate(found, start=1)]
    dataset.ROIContourSequence = [_contours(item, k, segments, sources) for k, item in enumerate(found, start=1)]
    dataset.RTROIObservationsSequence = [_observation(item, k) for k, item in enumerate(found, start=1)]
    without = [k for k, frame in enumerate(sources.frames) if frame is None]
    filled = [k for k in without if any(_stack(item)[k].any() for item in found)]
    if filled:
        notes["rtstruct-slices"] = f"contours of {len(filled)} slices without a file refer to none"
    dataset.file_meta = FileMetaDataset()
    # An explicit VR gives decimal strings 64 KiB, which a contour of some thousand corners exceeds.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _made_by(segments: Segments) -> str:
    """Program, version and checksums of the weights, for a text of 1024 characters."""
    weights = "; ".join(f"{role} {what}" for role, what in weights_of(segments.provenance).items())
    return text_of(f"{ALGORITHM} {__version__}, {targets_of(segments)}{'; ' if weights else ''}{weights}", 1024)


def _item(**elements: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _frame_of_reference(dataset: Any, sources: Sources) -> Dataset:
    series = [
        _item(
            SeriesInstanceUID=uid,
            ContourImageSequence=[
                refer_to(frame) for frame in sources.frames if frame is not None and frame.series == uid
            ],
        )
        for uid in sources.instances
    ]
    study = _item(
        ReferencedSOPClassUID=_STUDY,
        ReferencedSOPInstanceUID=dataset.StudyInstanceUID,
        RTReferencedSeriesSequence=series,
    )
    return _item(FrameOfReferenceUID=sources.frame_of_reference, RTReferencedStudySequence=[study])


def _roi(item: Segment, number: int, sources: Sources) -> Dataset:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=sources.frame_of_reference,
        ROIName=text_of(item.name),
        ROIGenerationAlgorithm=item.algorithm_type,
        ROIGenerationDescription=text_of(f"{ALGORITHM} {__version__}"),
    )


def _contours(item: Segment, number: int, segments: Segments, sources: Sources) -> Dataset:
    place = next(k for k, each in enumerate(segments.items) if each is item)
    assert sources.placed is not None
    contours: list[Dataset] = []
    stack = _stack(item)
    for plane in np.flatnonzero(stack.any(axis=(1, 2))):
        for polygon in outlines(stack[plane]):
            contours.append(_contour(polygon, sources.placed[plane], sources.frames[plane], len(contours) + 1))
    return _item(
        ROIDisplayColor=list(PALETTE[place % len(PALETTE)]),
        ContourSequence=contours,
        ReferencedROINumber=number,
    )


def _stack(item: Segment) -> NDArray[np.bool_]:
    return item.mask if item.mask.ndim == 3 else item.mask[None]


def _contour(polygon: Polygon, placed: Placed, frame: SourceFrame | None, number: int) -> Dataset:
    points = in_patient(polygon, placed)
    contour: Any = _item(
        ContourNumber=number,
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
        ContourData=[_written(value) for value in points.ravel()],
    )
    if frame is not None:
        contour.ContourImageSequence = [refer_to(frame)]
    return contour


def in_patient(polygon: Polygon, placed: Placed) -> NDArray[np.float64]:
    """Corners in pixels as x y z in mm, LPS: the place of the first pixel's centre, and steps from it (PS3.3 C.7.6.2).

    Args:
        polygon: (N, 2), row and column.
        placed: of the slice.
    """
    position, orientation, spacing = (
        np.array(texts, np.float64) for texts in (placed.position, placed.orientation, placed.spacing)
    )
    along_row, down_column = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    found: NDArray[np.float64] = position + polygon[:, 1:] * along_row + polygon[:, :1] * down_column
    return found


def _written(value: float) -> str:
    text = f"{value:.{_DIGITS}f}"
    if len(text) > 16:
        return decimal(value)
    text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _observation(item: Segment, number: int) -> Dataset:
    named = codes_of(item.name)

    def concept(code: Code, **more: Sequence[Dataset]) -> Dataset:
        return _item(
            CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=text_of(code.meaning), **more
        )

    side = {"SegmentedPropertyTypeModifierCodeSequence": [concept(named.side)]} if named.side else {}
    found: Any = _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        ROIObservationLabel=text_of(item.name, _LONGEST_LABEL),
        RTROIInterpretedType="",
        ROIInterpreter="",
        RTROIIdentificationCodeSequence=[concept(named.type, **side)],
    )
    return found

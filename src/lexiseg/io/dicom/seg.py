"""DICOM SEG through highdicom: one object a scan, one segment a target."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import FormatMismatch
from lexiseg.io.dicom.codes import Code, codes_of
from lexiseg.io.dicom.objects import (
    ALGORITHM,
    UTF8,
    content_of,
    content_uid,
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
from lexiseg.io.read import quiet
from lexiseg.io.segments import Segment, Segments, WriteOptions
from lexiseg.values.scans import Scan, Volume
from lexiseg.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CT = "1.2.840.10008.5.1.4.1.1.2"
_HIGHEST = 255
_TEMPORAL_POSITION, _FRAME_CONTENT = 0x00209128, 0x00209111
_PATIENT_POSITION = 0x00200032
# An object without a place: what highdicom was told of one.
_SPATIAL = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


class SegWriter:
    """Writes DICOM SEG: BINARY, LABELMAP or FRACTIONAL.

    - Frames lie where the files' own strings say. Frames without mask are left out. Targets that overlap keep their
      segments; a label map cannot hold them, and the scan's label map is then taken.
    - Every source instance is referred to, and each frame names its source frame. What the files lack, such as a
      Patient ID, is empty. A cine's or an X-ray's frames have no place, and refer to their source alone.
    - UIDs follow from what the object holds, and its dates are those of its images: equal masks are equal files.
    """

    suffix = ".seg.dcm"

    def why_not(self, scan: Scan) -> str:
        """See `Writer.why_not`."""
        return no_dicom(scan)

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """See `Writer.files`; nothing where no target was found, for an object without frames is none."""
        missing = [item.name for item in segments.items if not item.mask.any()]
        if missing:
            notes["dicom-seg"] = f"no segment of what was not found: {', '.join(missing)}"
        if not segments.found:
            return
        sources = sources_of(segments.scan)
        notes.update(sources.notes)
        dataset = seg_of(segments, sources, options, notes)
        if options.pseudonyms is not None:
            options.pseudonyms.apply(dataset)
        yield "mask", content_of(dataset)


def seg_of(segments: Segments, sources: Sources, options: WriteOptions, notes: dict[str, str]) -> Dataset:
    """The object of a scan's targets.

    highdicom is shown stand-ins: for each slice an image of one frame, with the place that the real one has. So every
    kind of source, whatever its header lacks, takes the same way. References are put right afterwards.

    Args:
        segments: of which at least one was found.
        sources: of their scan.
        options: see `WriteOptions`.
        notes: gets what was left out.

    Raises:
        FormatMismatch: probabilities are asked for and were not kept, or the mask lies in slices without files alone.
    """
    from highdicom.seg import Segmentation

    found = segments.found
    stack = _stacked(segments, options, notes)
    planes = _planes(stack, sources, notes)
    date, time = made_at(sources.header)
    stand_ins = [_stand_in(sources, k, segments.scan) for k in planes]
    try:
        with warnings.catch_warnings(), quiet("highdicom"):
            warnings.simplefilter("ignore")
            dataset: Any = Segmentation(
                source_images=stand_ins,
                pixel_array=_pixels(stack, planes),
                segmentation_type=options.seg_type.upper(),
                segment_descriptions=[_description(item, k, segments) for k, item in enumerate(found, start=1)],
                series_instance_uid=content_uid(segments, sources, options, "series"),
                sop_instance_uid=content_uid(segments, sources, options, "instance"),
                series_number=series_number(sources.header),
                instance_number=1,
                manufacturer=ALGORITHM,
                manufacturer_model_name=ALGORITHM,
                software_versions=__version__,
                device_serial_number="0",
                max_fractional_value=_HIGHEST,
                content_label="SEGMENTATION",
                content_description=targets_of(segments).capitalize(),
                specific_character_set=UTF8,
                series_description=f"{ALGORITHM} segmentation",
                content_date=date,
                content_time=time,
                omit_empty_frames=True,
            )
    # What the library says of a header that it does not take may quote it.
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise FormatMismatch(f"its header cannot be taken over ({type(error).__name__})") from error
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time
    dataset.ContributingEquipmentSequence = [_equipment()]
    if sources.placed is None:
        _take_place_away(dataset, planes, volume=isinstance(segments.scan, Volume))
    organisation = content_uid(segments, sources, options, "dimensions")
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    _refer(dataset, sources, {str(each.SOPInstanceUID): k for each, k in zip(stand_ins, planes, strict=True)})
    return dataset


def _stacked(segments: Segments, options: WriteOptions, notes: dict[str, str]) -> list[NDArray[Any]]:
    """Each segment's pixels (D, H, W): bool, or of probabilities float32 in steps of 1 / 255."""
    shape = segments.labels.shape if segments.labels.ndim == 3 else (1, *segments.labels.shape)
    if options.seg_type == "fractional":
        if any(item.probability is None for item in segments.found):
            raise FormatMismatch("probabilities were not kept")
        steps = [np.rint(np.clip(item.probability, 0, 1) * _HIGHEST) for item in segments.found]  # type: ignore[arg-type]
        _tell_cut(segments.found, steps, notes)
        return [(each / _HIGHEST).astype(np.float32).reshape(shape) for each in steps]
    masks: list[NDArray[Any]] = [item.mask.reshape(shape) for item in segments.found]
    if options.seg_type == "labelmap" and len(masks) > 1 and (np.sum(masks, axis=0) > 1).any():
        notes["labelmap"] = "targets overlap: each voxel belongs to one of them, as in the label map"
        numbers = [k for k, item in enumerate(segments.items, start=1) if item.mask.any()]
        masks = [segments.labels.reshape(shape) == number for number in numbers]
    return masks


def _tell_cut(found: Sequence[Segment], steps: Sequence[NDArray[Any]], notes: dict[str, str]) -> None:
    """Say where probabilities that are cut at half, as viewers do, are not the run's masks, which its preset cuts."""
    unit = "voxels" if found[0].mask.ndim == 3 else "pixels"
    counts = [int(((each >= _HIGHEST / 2) != item.mask).sum()) for each, item in zip(steps, found, strict=True)]
    told = [
        f"of {item.name} in {count} {unit}, its mask has {int(item.mask.sum())}"
        for item, count in zip(found, counts, strict=True)
        if count
    ]
    if told:
        notes["fractional"] = f"cut at half the probabilities differ from the masks: {', '.join(told)}"


def _planes(stack: Sequence[NDArray[Any]], sources: Sources, notes: dict[str, str]) -> list[int]:
    """The slices that hold anything and have a file."""
    filled = np.flatnonzero(np.any([each.any(axis=(1, 2)) for each in stack], axis=0))
    planes = [int(k) for k in filled if sources.frames[int(k)] is not None]
    if len(planes) < len(filled):
        notes["dicom-seg-slices"] = f"{len(filled) - len(planes)} slices of the mask have no file and are left out"
    if not planes:
        raise FormatMismatch("its mask lies in slices that no file holds")
    return planes


def _pixels(stack: Sequence[NDArray[Any]], planes: Sequence[int]) -> NDArray[Any]:
    kind = np.float32 if stack[0].dtype == np.float32 else np.uint8
    return np.stack([each[list(planes)].astype(kind) for each in stack], axis=-1)


def _stand_in(sources: Sources, plane: int, scan: Scan) -> Dataset:
    """An image that highdicom takes for a slice's: of one frame, with patient, study and place."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image: Any = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    taken_over(sources.header, image)
    image.SpecificCharacterSet = UTF8
    image.SOPClassUID, image.SOPInstanceUID = _CT, f"2.25.{plane + 1}"
    image.SeriesInstanceUID = "2.25.0"
    image.Modality = "OT"
    image.Rows, image.Columns = scan.shape[-2:]
    placed = sources.placed[plane] if sources.placed is not None else _nowhere(plane)
    image.FrameOfReferenceUID = sources.frame_of_reference or "2.25.0"
    if reference := sources.header.get("PositionReferenceIndicator"):
        image.PositionReferenceIndicator = reference
    image.ImagePositionPatient = list(placed.position)
    image.ImageOrientationPatient = list(placed.orientation)
    image.PixelSpacing = list(placed.spacing)
    image.SliceThickness = placed.thickness
    if isinstance(scan, Volume) and scan.geometry.regular and scan.geometry.spacing is not None:
        normal = np.cross(*np.array(placed.orientation, np.float64).reshape(2, 3))
        step = scan.geometry.affine[:3, 2] * [-1, -1, 1]
        image.SpacingBetweenSlices = f"{abs(float(normal @ step)):.10g}"
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if sources.header.get(keyword) is not None:
            image[keyword] = sources.header[keyword]
    return image


def _nowhere(plane: int) -> Placed:
    return Placed(("0", "0", str(plane)), ("1", "0", "0", "0", "1", "0"), ("1", "1"), "1")


def _description(item: Segment, number: int, segments: Segments) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    named = codes_of(item.name)

    def concept(code: Code) -> CodedConcept:
        return CodedConcept(code.value, code.scheme, code.meaning)

    algorithm = AlgorithmIdentificationSequence(
        name=ALGORITHM,
        version=__version__,
        family=codes.cid7162.ArtificialIntelligence,
        source=ALGORITHM,
        parameters=weights_of(segments.provenance) or None,
    )
    place = next(k for k, each in enumerate(segments.items) if each is item)
    description: Any = SegmentDescription(
        segment_number=number,
        segment_label=text_of(item.name),
        segmented_property_category=concept(named.category),
        segmented_property_type=concept(named.type),
        algorithm_type=item.algorithm_type,
        # Where a person made all of it there is no algorithm to name.
        algorithm_identification=None if item.algorithm_type == "MANUAL" else algorithm,
        anatomic_regions=[concept(named.region)] if named.region else None,
        display_color=CIELabColor(*_lab(PALETTE[place % len(PALETTE)])),
    )
    if named.side:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            concept(named.side)
        ]
    return description


def _lab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """A colour of sRGB as CIELab, which DICOM wants (PS3.3 C.10.7.1.1)."""
    from skimage.color import rgb2lab

    lightness, a, b = rgb2lab(np.array([[rgb]], np.uint8))[0, 0]
    return float(lightness), float(a), float(b)


def _equipment() -> Dataset:
    from pydicom.dataset import Dataset

    item: Any = Dataset()
    item.Manufacturer = item.ManufacturerModelName = ALGORITHM
    item.SoftwareVersions = __version__
    purpose: Any = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _take_place_away(dataset: Any, planes: Sequence[int], *, volume: bool) -> None:
    """What has no place refers to its source alone; the frames of a cine are told apart by their number in time."""
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "DimensionOrganizationType"):
        if keyword in dataset:
            del dataset[keyword]
    groups = (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence)
    for item in groups:
        position = item.get("PlanePositionSequence")
        if position:
            content = item.FrameContentSequence[0]
            plane = round(float(position[0].ImagePositionPatient[2]))
            if volume:
                content.TemporalPositionIndex = plane + 1
        for keyword in _SPATIAL:
            if keyword in item:
                del item[keyword]
    kept = []
    for index, pointer in enumerate(dataset.DimensionIndexSequence):
        if pointer.DimensionIndexPointer != _PATIENT_POSITION:
            kept.append(index)
        elif volume:
            kept.append(index)
            pointer.DimensionIndexPointer = _TEMPORAL_POSITION
            pointer.FunctionalGroupPointer = _FRAME_CONTENT
            pointer.DimensionDescriptionLabel = "Temporal Position Index"
    dataset.DimensionIndexSequence = [dataset.DimensionIndexSequence[index] for index in kept]
    for item in dataset.PerFrameFunctionalGroupsSequence:
        values = item.FrameContentSequence[0].DimensionIndexValues
        values = [values] if isinstance(values, int) else list(values)
        item.FrameContentSequence[0].DimensionIndexValues = [values[index] for index in kept]


def _refer(dataset: Any, sources: Sources, plane_of: dict[str, int]) -> None:
    """Put the real instances in the place of the stand-ins, and list all of the scan's."""
    done: set[int] = set()
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", ()):
            for item in derivation.get("SourceImageSequence", ()):
                # highdicom puts one item into the frames of all segments.
                if id(item) in done:
                    continue
                done.add(id(item))
                frame = sources.frames[plane_of[str(item.ReferencedSOPInstanceUID)]]
                assert frame is not None
                for element in refer_to(frame):
                    item.add(element)
    series = []
    for uid, frames in sources.instances.items():
        of_series: Any = _empty()
        of_series.SeriesInstanceUID = uid
        of_series.ReferencedInstanceSequence = [refer_to(_whole(frame)) for frame in frames]
        series.append(of_series)
    dataset.ReferencedSeriesSequence = series
    if "SourceImageSequence" in dataset:
        del dataset.SourceImageSequence


def _whole(frame: SourceFrame) -> SourceFrame:
    return SourceFrame(frame.sop_class, frame.sop_instance, frame.series)


def _empty() -> Dataset:
    from pydicom.dataset import Dataset

    return Dataset()

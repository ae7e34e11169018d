"""Synthetic DICOM series: any placing, any order of files, missing slices, one multi-frame file, a cine, an X-ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from lexiseg.io.dicom.files import DicomInstances, Frame
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Volume

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
US_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"
DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.1.1"

SLOPE, INTERCEPT = 1.0, -1024.0
_ROOT = "1.2.826.0.1.3680043.8.498.77."
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SeriesPlan:
    """What a series is like.

    Attributes:
        shape: (D, H, W).
        orientation: Image Orientation (Patient): along a row, then down a column.
        spacing: mm between rows, and between columns.
        origin: Image Position (Patient) of the first slice, LPS mm.
        step: from slice to slice, LPS mm; a shear where it is not along the normal.
        places: of the slices, in steps; 0, 1, 2, ... when None. A gap is a missing slice.
        seed: of the order of files and of the pixels.
        header: elements that every file has besides; None takes an element away.
    """

    shape: tuple[int, int, int] = (5, 7, 6)
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    spacing: tuple[float, float] = (0.8, 0.8)
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0)
    step: tuple[float, float, float] = (0.0, 0.0, 2.5)
    places: tuple[float, ...] | None = None
    seed: int = 0
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> np.ndarray:
        """Where each slice lies, in steps."""
        return np.arange(self.shape[0], dtype=float) if self.places is None else np.array(self.places, float)

    @property
    def pixels(self) -> np.ndarray:
        """uint16 (D, H, W), as stored."""
        return np.random.default_rng(self.seed).integers(0, 3000, self.shape).astype(np.uint16)

    @property
    def affine(self) -> np.ndarray:
        """Voxel (column, row, step) to RAS+ mm, of the decimal strings in the files."""
        orientation, spacing = _read(self.orientation), _read(self.spacing)
        first, last = (_read(self.position(k)) for k in (0, self.shape[0] - 1))
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
        affine[:3, 2] = (last - first) / (self.steps[-1] - self.steps[0]) if self.shape[0] > 1 else self.step
        affine[:3, 3] = first - affine[:3, 2] * self.steps[0]
        return np.asarray(_LPS @ affine)

    def position(self, k: int) -> np.ndarray:
        """Image Position (Patient) of a slice, LPS mm."""
        return np.asarray(self.origin) + self.steps[k] * np.asarray(self.step)


def _read(values: Sequence[float]) -> np.ndarray:
    """Numbers as they come out of a file again."""
    return np.array([float(_ds(value)) for value in values])


def _ds(value: float) -> str:
    return str(format_number_as_ds(float(value)))


def turned(degrees: float, axis: str = "x") -> tuple[float, ...]:
    """An oblique Image Orientation (Patient): the axial one turned around an axis, in six digits as scanners write."""
    turn = np.deg2rad(degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = {
        "x": [[1, 0, 0], [0, cos, -sin], [0, sin, cos]],
        "y": [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]],
        "z": [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
    }[axis]
    both = np.array(matrix)[:, :2]
    return tuple(float(f"{value:.6f}") for value in both.T.ravel())


OBLIQUE = SeriesPlan(orientation=turned(17, "y"), step=(0.73093, 0.0, 2.3907625), spacing=(0.7, 0.9))
SHEARED = SeriesPlan(orientation=turned(18.5), step=(0.0, 0.0, 4.0), spacing=(0.488281, 0.488281))
LEFT_HANDED = SeriesPlan(step=(0.0, 0.0, -3.0))
SAGITTAL = SeriesPlan(orientation=(0, 1, 0, 0, 0, -1), step=(1.2, 0.0, 0.0), spacing=(1.0, 1.1))
CORONAL = SeriesPlan(orientation=(1, 0, 0, 0, 0, -1), step=(0.0, 2.0, 0.0), spacing=(0.5, 0.75))
ANISOTROPIC = SeriesPlan(spacing=(0.3, 1.7), step=(0.0, 0.0, 9.0))
UNEVEN = SeriesPlan(shape=(5, 7, 6), places=(0.0, 1.0, 2.0, 4.5, 7.0))
PLANS = {
    "axial": SeriesPlan(),
    "oblique": OBLIQUE,
    "sheared": SHEARED,
    "left-handed": LEFT_HANDED,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "anisotropic": ANISOTROPIC,
}


def write_series(folder: Path, plan: SeriesPlan) -> list[Path]:
    """A file a slice, their names and instance numbers in another order than the slices.

    Returns:
        The files in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(plan.seed + 1).permutation(plan.shape[0])
    files = []
    for k, pixels in enumerate(plan.pixels):
        dataset = _header(plan, CT, instance=int(order[k]) + 1)
        dataset.ImagePositionPatient = [_ds(value) for value in plan.position(k)]
        dataset.ImageOrientationPatient = [_ds(value) for value in plan.orientation]
        dataset.PixelSpacing = [_ds(value) for value in plan.spacing]
        dataset.SliceThickness = "2.5"
        files.append(_save(dataset, pixels, plan, folder / f"{order[k]:03d}.dcm"))
    return files


def write_multi_frame(path: Path, plan: SeriesPlan) -> Path:
    """One enhanced CT file; its frames lie in another order than the slices, see `frame_order`."""
    dataset = _header(plan, ENHANCED_CT)
    shared: Any = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[_ds(value) for value in plan.orientation])]
    measures = _item(PixelSpacing=[_ds(value) for value in plan.spacing], SliceThickness="2.5")
    shared.PixelMeasuresSequence = [measures]
    transformation = _item(RescaleSlope=_ds(SLOPE), RescaleIntercept=_ds(INTERCEPT), RescaleType="HU")
    shared.PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(dataset, name)
    order = frame_order(plan)
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(PlanePositionSequence=[_item(ImagePositionPatient=[_ds(value) for value in plan.position(int(k))])])
        for k in order
    ]
    dataset.NumberOfFrames = plan.shape[0]
    return _save(dataset, plan.pixels[order], plan, path)


def frame_order(plan: SeriesPlan) -> np.ndarray:
    """Of a multi-frame file: the slice that each frame is."""
    return np.random.default_rng(plan.seed + 1).permutation(plan.shape[0])


def write_cine(path: Path, plan: SeriesPlan) -> Path:
    """A multi-frame ultrasound in time: no frame of reference, no positions, hardly any patient."""
    dataset = _header(plan, US_MULTI_FRAME)
    for name in ("FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept", "RescaleType", "PatientID", "StudyID"):
        delattr(dataset, name)
    dataset.Modality = "US"
    dataset.NumberOfFrames = plan.shape[0]
    return _save(dataset, plan.pixels, plan, path)


def write_xray(path: Path, plan: SeriesPlan) -> Path:
    """One digital X-ray: detector spacing alone, no frame of reference."""
    dataset = _header(plan, DIGITAL_XRAY)
    for name in ("FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(dataset, name)
    dataset.Modality = "DX"
    dataset.ImagerPixelSpacing = [_ds(value) for value in plan.spacing]
    return _save(dataset, plan.pixels[0], plan, path)


def volume_of_series(files: Sequence[Path | None], plan: SeriesPlan, *, id: str = "series") -> Volume:
    """The volume that a series of files is, as a reader would give it; None is a slice that was filled in."""
    positions = None
    affine = plan.affine
    if plan.places is not None:
        length = float(np.linalg.norm(plan.step))
        positions = tuple(float(each) for each in (plan.steps - plan.steps[0]) * length)
        affine = affine.copy()
        affine[:3, 2] *= (plan.steps[-1] - plan.steps[0]) / (plan.shape[0] - 1)
    values = (plan.pixels * SLOPE + INTERCEPT).astype(np.float32)
    geometry = Geometry(plan.shape, affine, _ROOT + "9", positions)
    frames = tuple(None if file is None else Frame(file, 0) for file in files)
    return Volume(values, geometry, id=id, unit="HU", header=DicomInstances(frames), notes={"format": "DICOM"})


def volume_of_multi_frame(file: Path, plan: SeriesPlan) -> Volume:
    """The volume of a file of `write_multi_frame`."""
    place = np.argsort(frame_order(plan))
    volume = volume_of_series([file] * plan.shape[0], plan)
    return replace(volume, header=DicomInstances(tuple(Frame(file, int(k)) for k in place)))


def volume_of_cine(file: Path, plan: SeriesPlan) -> Volume:
    """The stack in time of a file of `write_cine`."""
    geometry = Geometry(plan.shape, np.diag([plan.spacing[1], plan.spacing[0], 1.0, 1.0]), time=True)
    frames = tuple(Frame(file, k) for k in range(plan.shape[0]))
    return Volume(plan.pixels.astype(np.float32), geometry, header=DicomInstances(frames), notes={"format": "DICOM"})


def image_of_xray(file: Path, plan: SeriesPlan) -> Image:
    """The picture of a file of `write_xray`."""
    pixels = (plan.pixels[0] / 3000).astype(np.float32)
    return Image(pixels, spacing=plan.spacing, header=DicomInstances((Frame(file, 0),)))


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _header(plan: SeriesPlan, sop_class: str, instance: int = 1) -> Any:
    dataset: Any = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{_ROOT}1.{plan.seed}.{instance}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{_ROOT}2.{plan.seed}", f"{_ROOT}3.{plan.seed}"
    dataset.FrameOfReferenceUID = _ROOT + "9"
    dataset.PatientID, dataset.PatientName = "ID-77", "Doe^Jane"
    dataset.PatientBirthDate, dataset.PatientSex = "19610203", "F"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20210304", "101112", "S1"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "A-1", "Roe^Richard"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 4, instance
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = _ds(SLOPE), _ds(INTERCEPT), "HU"
    return dataset


def _save(dataset: Any, pixels: np.ndarray, plan: SeriesPlan, path: Path) -> Path:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for keyword, value in plan.header.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", f"{_ROOT}0")
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def read_plainly(folder: Path) -> Volume:
    """A series of one-frame files of one orientation, by pydicom and the positions alone."""
    import pydicom

    found = [(path, pydicom.dcmread(path)) for path in sorted(folder.iterdir())]
    turn = np.array(found[0][1].ImageOrientationPatient, float)
    normal = np.cross(turn[:3], turn[3:])
    found.sort(key=lambda each: float(normal @ np.array(each[1].ImagePositionPatient, float)))
    headers = [dataset for _, dataset in found]
    first, last = (np.array(headers[k].ImagePositionPatient, float) for k in (0, -1))
    spacing = np.array(headers[0].PixelSpacing, float)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = turn[:3] * spacing[1], turn[3:] * spacing[0]
    affine[:3, 2], affine[:3, 3] = (last - first) / max(1, len(headers) - 1), first
    values = np.stack([dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) for dataset in headers])
    values = (values + float(headers[0].get("RescaleIntercept", 0))).astype(np.float32)
    depth, height, width = values.shape
    geometry = Geometry((depth, height, width), np.asarray(_LPS @ affine), str(headers[0].FrameOfReferenceUID))
    return Volume(values, geometry, header=DicomInstances(tuple(Frame(path, 0) for path, _ in found)))

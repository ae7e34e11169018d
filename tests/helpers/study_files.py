"""DICOM series as scanners write them, made by pydicom: one file a slice, or one of many frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from orientations import turned
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from lexiseg.io.read import read_scan
from lexiseg.values.scans import Volume

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""LPS to RAS, and back."""

Edit = Callable[[Dataset, int], object]

SHAPE = (7, 6, 5)
VALUES = np.random.default_rng(3).integers(-900, 900, SHAPE).astype(np.int16)


def affine_of(columns: np.ndarray, sizes: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = columns * np.array(sizes)
    affine[:3, 3] = origin
    return affine


SHEAR = np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 0.95]])
AFFINES = {
    "axial": affine_of(np.diag([-1.0, -1, 1]), (0.7, 0.8, 2.5), (100, 90, -310.5)),
    "feet last": affine_of(np.diag([-1.0, -1, -1]), (0.7, 0.8, 2.5), (100, 90, 310.5)),
    "sagittal": affine_of(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), (0.9, 0.9, 4.0), (-60, 80, 90)),
    "coronal": affine_of(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), (0.5, 0.6, 3.0), (50, -40, 30)),
    "oblique": affine_of(turned(23.0), (0.81, 0.93, 3.3), (-12.34567, 45.6789, -7.5)),
    "left-handed": affine_of(turned(40.0) @ np.diag([1.0, 1, -1]), (1.1, 0.4, 5.0), (3, 2, 1)),
    "sheared": affine_of(turned(10.0) @ SHEAR, (0.6, 0.7, 6.0), (8, -9, 10)),
}


def read_volume(path: Path, **options: Any) -> Volume:
    scan = read_scan(path, **options)
    assert isinstance(scan, Volume)
    return scan


def digits(number: float) -> str:
    """A number as a decimal string of at most 16 characters."""
    return format_number_as_ds(float(number))


def plain_dataset(array: np.ndarray, sop_class: str = CTImageStorage) -> Dataset:
    """A dataset with pixels (H, W), (H, W, 3), or with `NumberOfFrames` set (N, H, W) and (N, H, W, 3)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.Modality = "CT"
    colour = array.shape[-1] == 3
    made.Rows, made.Columns = array.shape[-3:-1] if colour else array.shape[-2:]
    made.SamplesPerPixel = 3 if colour else 1
    if colour:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * array.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(array.dtype.kind == "i")
    made.PixelData = array.tobytes()
    made["PixelData"].VR = "OB" if array.dtype.itemsize == 1 else "OW"
    return made


def place(lps: np.ndarray, index: float) -> list[str]:
    """Image Position (Patient) of a slice of a grid."""
    return [digits(number) for number in (lps @ [0, 0, index, 1])[:3]]


def directions(lps: np.ndarray) -> tuple[list[str], list[str]]:
    """Image Orientation (Patient) and Pixel Spacing of a grid."""
    sizes = np.linalg.norm(lps[:3, :2], axis=0)
    cosines = lps[:3, :2] / sizes
    return [digits(number) for number in cosines.T.ravel()], [digits(sizes[1]), digits(sizes[0])]


def write_series(
    folder: Path,
    values: np.ndarray,
    affine: np.ndarray,
    *,
    seed: int = 0,
    edit: Edit | None = None,
    elements: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write (D, H, W, ...) as one file a slice, under names and Instance Numbers that say nothing of the order.

    Args:
        folder: made if missing.
        values: the pixels as they are stored.
        affine: (4, 4), voxel (column, row, slice) to RAS+ mm.
        seed: of the order of names and numbers.
        edit: called with each dataset and its slice's index before it is written.
        elements: of every file.

    Returns:
        The files, by slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = FLIP @ affine
    orientation, spacing = directions(lps)
    series, frame = generate_uid(), generate_uid()
    order = np.random.default_rng(seed).permutation(len(values))
    paths = []
    for index, array in enumerate(values):
        made = plain_dataset(array)
        made.SeriesInstanceUID, made.FrameOfReferenceUID = series, frame
        made.ImageOrientationPatient, made.PixelSpacing = orientation, spacing
        made.ImagePositionPatient = place(lps, index)
        made.InstanceNumber = int(order[index]) + 1
        for keyword, value in (elements or {}).items():
            setattr(made, keyword, value)
        if edit is not None:
            edit(made, index)
        path = folder / f"im{order[index]}.dcm"
        made.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_frames(
    path: Path,
    values: np.ndarray,
    affine: np.ndarray,
    *,
    seed: int = 0,
    edit: Callable[[Dataset], object] | None = None,
    per_frame: Callable[[Dataset, int], object] | None = None,
) -> None:
    """Write (D, H, W) as one enhanced file whose frames lie in another order than the slices.

    Args:
        path: the file.
        values: the pixels as they are stored.
        affine: as of `write_series`.
        seed: of the order of the frames.
        edit: called with the dataset before it is written.
        per_frame: called with each frame's functional groups and its slice's index.
    """
    lps = FLIP @ affine
    orientation, spacing = directions(lps)
    order = np.random.default_rng(seed).permutation(len(values))
    made = plain_dataset(values[order], EnhancedCTImageStorage)
    made.NumberOfFrames = len(values)
    made.SeriesInstanceUID, made.FrameOfReferenceUID = generate_uid(), generate_uid()
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, plane.ImageOrientationPatient = spacing, orientation
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for index in order:
        group, where = Dataset(), Dataset()
        where.ImagePositionPatient = place(lps, index)
        group.PlanePositionSequence = Sequence([where])
        if per_frame is not None:
            per_frame(group, int(index))
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    if edit is not None:
        edit(made)
    made.save_as(path, enforce_file_format=True)

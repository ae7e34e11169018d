"""Files of every format, made by the libraries that others make them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def make_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array as DICOM; keywords become elements, `edit` may change the dataset before writing."""

    def make(
        array: np.ndarray,
        name: str = "scan.dcm",
        *,
        edit: Callable[[Dataset], object] | None = None,
        **elements: Any,
    ) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PatientName = "Doe^Jane"
        dataset.Rows, dataset.Columns = array.shape[:2]
        dataset.SamplesPerPixel = 3 if array.ndim == 3 else 1
        if array.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = "RGB" if array.ndim == 3 else "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * array.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(array.dtype.kind == "i")
        dataset.PixelData = array.tobytes()
        dataset["PixelData"].VR = "OB" if array.dtype.itemsize == 1 else "OW"
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        if edit is not None:
            edit(dataset)
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture
def make_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array as NIfTI-1 (or another of nibabel's classes)."""

    def make(
        array: np.ndarray,
        affine: np.ndarray | None = None,
        name: str = "scan.nii.gz",
        *,
        kind: type = nib.Nifti1Image,
        edit: Callable[[Any], object] | None = None,
    ) -> Path:
        image = kind(array, np.eye(4) if affine is None else affine)
        if edit is not None:
            edit(image.header)
        path = tmp_path / name
        nib.save(image, path)
        return path

    return make

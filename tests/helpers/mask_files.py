"""One mask in every encoding that people store masks in, written by other libraries where they can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def grey(value: int, dtype: type = np.uint8, suffix: str = ".png", **options: object) -> Writer:
    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + suffix)
        Image.fromarray(mask.astype(dtype) * dtype(value)).save(path, **options)
        return path

    return write


def one_bit(mask: np.ndarray, stem: Path) -> Path:
    path = stem.with_name(stem.name + ".png")
    Image.fromarray(mask).save(path)
    return path


def coloured(*colour: int) -> Writer:
    """One colour on black, or with four channels the colour everywhere and the mask in alpha."""

    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".png")
        if len(colour) == 3:
            values = mask[..., None] * np.array(colour, np.uint8)
        else:
            values = np.broadcast_to(np.array(colour, np.uint8), (*mask.shape, len(colour))).copy()
            values[..., -1] = mask * np.uint8(255)
        Image.fromarray(values).save(path)
        return path

    return write


def drawn_over_white(mask: np.ndarray, stem: Path) -> Path:
    """Black where the mask is, and transparent white elsewhere."""
    path = stem.with_name(stem.name + ".png")
    values = np.full((*mask.shape, 4), 255, np.uint8)
    values[mask, :3], values[~mask, 3] = 0, 0
    Image.fromarray(values).save(path)
    return path


def palette(*colours: int) -> Writer:
    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".png")
        image = Image.fromarray(mask.astype(np.uint8)).convert("L")
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(list(colours))
        image.save(path)
        return path

    return write


def tiff(dtype: type, value: int, photometric: str, byteorder: str = "<") -> Writer:
    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".tif")
        top = np.iinfo(dtype).max
        values = mask.astype(dtype) * dtype(value)
        if photometric == "miniswhite":
            values = top - values
        tifffile.imwrite(path, values, photometric=photometric, byteorder=byteorder)
        return path

    return write


def dicom(value: int, bits: int = 8, photometric: str = "MONOCHROME2", stored: int | None = None) -> Writer:
    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".dcm")
        dtype = np.uint8 if bits == 8 else np.uint16
        values = mask.astype(dtype) * dtype(value)
        used = stored or bits
        if photometric == "MONOCHROME1":
            values = (2**used - 1 - values.astype(int)).astype(dtype)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Rows, dataset.Columns = mask.shape
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.PhotometricInterpretation = photometric
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, used, used - 1
        # What a viewer would do to grey levels says nothing of a mask.
        dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
        content = values.tobytes()
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


def nifti(mask: np.ndarray, stem: Path, value: float = 1, dtype: type = np.uint8) -> Path:
    """A volume, or an image as a volume of one slice, on an axial grid of 1 mm."""
    path = stem.with_name(stem.name + ".nii.gz")
    voxels = (mask if mask.ndim == 3 else mask[None]).T.astype(dtype) * dtype(value)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


Writer = Callable[[np.ndarray, Path], Path]

EXACT: dict[str, Writer] = {
    "0 and 1": grey(1),
    "0 and 100": grey(100),
    "0 and 255": grey(255),
    "one bit": one_bit,
    "16 bits": grey(65535, np.uint16),
    "0 and 1 in 16 bits": grey(1, np.uint16),
    "red": coloured(255, 0, 0),
    "white in colour": coloured(255, 255, 255),
    "dark green": coloured(0, 1, 0),
    "alpha of white": coloured(255, 255, 255, 255),
    "alpha of black": coloured(0, 0, 0, 255),
    "alpha of grey": coloured(200, 255),
    "black over transparent white": drawn_over_white,
    "palette": palette(0, 0, 0, 128, 0, 0),
    "palette with a white background": palette(255, 255, 255, 255, 0, 0),
    "palette, index 1 black": palette(255, 255, 255, 0, 0, 0),
    "bmp": grey(255, suffix=".bmp"),
    "webp": grey(255, suffix=".webp", lossless=True),
    "tiff": tiff(np.uint8, 255, "minisblack"),
    "tiff, white is zero": tiff(np.uint8, 255, "miniswhite"),
    "tiff, 16 bits": tiff(np.uint16, 65535, "minisblack", ">"),
    "tiff, 16 bits, white is zero": tiff(np.uint16, 65535, "miniswhite"),
    "tiff, 16 bits, white is zero, 0 and 1": tiff(np.uint16, 1, "miniswhite"),
    "dicom": dicom(1),
    "dicom, 0 and 255": dicom(255),
    "dicom, 12 bits in 16": dicom(4095, 16, stored=12),
    "dicom, white is zero": dicom(1, photometric="MONOCHROME1"),
    "dicom, white is zero, 12 bits": dicom(4095, 16, "MONOCHROME1", stored=12),
}
"""Encodings that hold every pixel."""


def lossy(value: int, quality: int, suffix: str = ".jpg") -> Writer:
    return grey(value, suffix=suffix, quality=quality)


def antialiased(factor: int, top: int = 255, dtype: type = np.uint8) -> Writer:
    """As drawing programs smooth an outline: each pixel is the share of a finer one that is inside."""

    def write(mask: np.ndarray, stem: Path) -> Path:
        path = stem.with_name(stem.name + ".png")
        fine = np.kron(mask, np.ones((factor, factor)))
        # Shifted by a part of a pixel, so that there are edges to smooth.
        fine = np.roll(fine, factor // 4, axis=(0, 1))
        shares = fine.reshape(mask.shape[0], factor, mask.shape[1], factor).mean(axis=(1, 3))
        Image.fromarray(np.rint(shares * top).astype(dtype)).save(path)
        return path

    return write


SOFT: dict[str, Writer] = {
    "jpeg": lossy(255, 75),
    "jpeg, 0 and 1": lossy(1, 90),
    "jpeg, 0 and 100": lossy(100, 60),
    "jpeg, best quality": lossy(255, 95),
    "lossy webp": lossy(255, 70, ".webp"),
    "antialiased": antialiased(8),
    "antialiased, 0 to 100": antialiased(8, 100),
    "antialiased, 16 bits": antialiased(4, 65535, np.uint16),
}
"""Encodings that change pixels at the edges."""

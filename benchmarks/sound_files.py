"""Small sound files of each format, made in code, for campaigns that damage them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

GREY = (np.add.outer(np.arange(24), np.arange(32)) * 4).astype(np.uint8)
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def valid_files() -> dict[str, list[bytes]]:
    """Sound files of each format, several kinds of each, always the same."""
    return {"PNG": _pngs(), "JPEG": _jpegs(), "TIFF": _tiffs(), "DICOM": _dicoms(), "NIfTI": _niftis()}


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def _pngs() -> list[bytes]:
    grey = Image.fromarray(GREY)
    alpha = Image.fromarray(np.dstack([COLOUR, GREY]))
    words = np.dstack([COLOUR.astype(">u2") * 16]).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in words)
    body = [(b"IHDR", struct.pack(">IIBBBBB", 32, 24, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    wide = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in body)
    deep = Image.fromarray(GREY.astype(np.uint16) * 16)
    images = [grey, Image.fromarray(COLOUR), alpha, deep, grey.convert("P"), grey.convert("1")]
    return [*(_saved(each, "PNG") for each in images), wide]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _jpegs() -> list[bytes]:
    colour, exif = Image.fromarray(COLOUR), Image.Exif()
    exif[0x0112] = 6
    return [
        _saved(Image.fromarray(GREY), "JPEG"),
        _saved(colour, "JPEG", progressive=True),
        _saved(colour, "JPEG", exif=exif),
        _saved(colour.convert("CMYK"), "JPEG"),
        _saved(colour, "MPO", save_all=True, append_images=[colour.resize((8, 6))]),
    ]


def _tiffs() -> list[bytes]:
    def tiff(array: np.ndarray, **options: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, array, **options)
        return file.getvalue()

    wide = COLOUR.astype(np.uint16) * 16
    return [
        tiff(GREY),
        tiff(wide, photometric="rgb"),
        tiff(wide, photometric="rgb", compression="zlib", byteorder=">"),
        tiff(GREY.astype(np.int16) - 500, photometric="miniswhite"),
        tiff(GREY.astype(np.float32), tile=(16, 16)),
        tiff(GREY.astype(np.float64), bigtiff=True),
        tiff(np.moveaxis(COLOUR, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        _saved(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"),
        _saved(Image.fromarray(GREY).convert("P"), "TIFF"),
    ]


def _dicoms() -> list[bytes]:
    words = (GREY.astype(np.int16) - 100).tobytes()
    plain = _dicom(words, 16, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-1024)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(0, 65536, 256, dtype=np.uint16).tobytes()
    grey = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    with_table = _dicom(GREY.tobytes(), 8, **grey, VOILUTSequence=[table], PixelPaddingValue=0)
    implicit = _dicom(words, 16, syntax=ImplicitVRLittleEndian, PixelSpacing=[0.5, 0.5])
    colour = _dicom(
        COLOUR.tobytes(), 8, **grey, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    frames = [_saved(Image.fromarray(GREY), "JPEG")]
    packed = _dicom(encapsulate(frames), 8, syntax=JPEGBaseline8Bit, **grey)
    measures, group = Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.7]
    group.PixelMeasuresSequence = [measures]
    nested = _dicom(words, 16, SharedFunctionalGroupsSequence=[group], NumberOfFrames=1)
    rle = _rle(_dicom(GREY.tobytes(), 8, **grey))
    return [plain, with_table, implicit, colour, packed, nested, rle]


def _dicom(pixels: bytes, bits: int, *, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 24, 32, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 1
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _rle(plain: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(plain))
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def _niftis() -> list[bytes]:
    volume = np.stack([GREY, GREY[::-1]], axis=2).astype(np.int16)
    affine = np.diag([-0.7, -0.7, 3, 1])
    quaternion = nib.Nifti1Image(volume, affine)
    quaternion.set_sform(None, 0)
    quaternion.set_qform(affine, 1)
    images = [nib.Nifti1Image(volume, affine), nib.Nifti2Image(volume.astype(np.float32), affine), quaternion]
    files = [image.to_bytes() for image in images]
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return [*files, packer.compress(files[0]) + packer.flush()]

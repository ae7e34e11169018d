"""Names in every text element of DICOM files, and the search for them in what a run leaves."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image
from pydicom.datadict import DicomDictionary

# Of names: in the case that no other word of a run has.
PLANTED = "ZeBRaFiSH"
DAY = "19371109"
_LENGTHS = {"SH": 16, "LO": 64, "PN": 64, "ST": 200, "LT": 200, "UT": 200, "UC": 200}
# What an image is read by, and what says which file, class and coding it is.
_NEEDED = {"SpecificCharacterSet", "PatientID", "PatientName"}


def plant(path: Path) -> int:
    """Write the name into every text element that DICOM knows outside of sequences, and into private ones."""
    dataset: Any = pydicom.dcmread(path)
    count = 0
    for tag, (kind, multiplicity, _, retired, keyword) in DicomDictionary.items():
        if tag >> 16 in (0x0000, 0x0002, 0x0004, 0x0006) or tag & 0xFFFF == 0 or not keyword:
            continue
        if kind not in _LENGTHS or keyword in _NEEDED or retired == "Retired" or multiplicity == "0":
            continue
        try:
            dataset.add_new(tag, kind, f"{PLANTED} {count}"[: _LENGTHS[kind]])
            count += 1
        except ValueError:
            continue
    dataset.PatientName, dataset.PatientID = f"{PLANTED}^Jane", f"{PLANTED}-77"
    dataset.PatientBirthDate = dataset.PatientDeathDateInAlternativeCalendar = DAY
    dataset.PatientSex = "F"
    block = dataset.private_block(0x0029, f"{PLANTED} HEADER", create=True)
    block.add_new(0x01, "LO", PLANTED)
    block.add_new(0x02, "OB", PLANTED.encode() * 4)
    dataset.save_as(path)
    return count


def decoded(path: Path) -> bytes:
    """All that a file says, unpacked."""
    content = path.read_bytes()
    if path.name.endswith(".gz"):
        return gzip.decompress(content)
    if path.suffix == ".nrrd":
        end = content.index(b"\n\n") + 2
        return content[:end] + gzip.decompress(content[end:])
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
            return content + repr(picture.info).encode()
    return content


def holds(content: bytes) -> bool:
    wide = [PLANTED.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    return any(each in content for each in (*wide, DAY.encode()))

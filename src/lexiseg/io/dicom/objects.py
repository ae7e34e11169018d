"""What DICOM objects that we write have in common: UIDs and dates that repeat, and who made them."""

from __future__ import annotations

import copy
import hashlib
import io
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from lexiseg.io.dicom.fields import value_of
from lexiseg.io.dicom.pseudonyms import uid_of
from lexiseg.io.segments import Segments, WriteOptions
from lexiseg.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lexiseg.io.dicom.sources import SourceFrame, Sources

ALGORITHM = "lexiseg"
UTF8 = "ISO_IR 192"
"""The character set of what we write: a phrase may be of any alphabet."""

_TEXT = 64
# The patient's modules, and what makes objects one study.
_MODULES = ("PatientName", "PatientID", "PatientBirth", "PatientSex", "PatientAge", "PatientSize", "PatientWeight",
            "OtherPatient", "EthnicGroup", "IssuerOfPatientID", "ClinicalTrial")  # fmt: skip
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
          "ReferringPhysicianName")  # fmt: skip
_DATED = ("Content", "Acquisition", "Series", "Study")


def content_uid(segments: Segments, sources: Sources, options: WriteOptions, role: str) -> str:
    """A UID of what an object holds: equal masks of equal files by equal weights have equal ones.

    Args:
        segments: that it holds.
        sources: that it refers to.
        options: how it is written.
        role: which of the object's UIDs.
    """
    digest = hashlib.sha256(f"{ALGORITHM} {__version__} {role} {options.seg_type}".encode())
    digest.update("\0".join(weights_of(segments.provenance).values()).encode())
    for frame in sources.frames:
        digest.update(repr(frame).encode())
    for item in segments.found:
        digest.update(item.name.encode() + b"\0")
        digest.update(np.packbits(item.mask).tobytes())
        if item.algorithm_type != "AUTOMATIC":
            digest.update(item.algorithm_type.encode())
        if options.seg_type == "fractional" and item.probability is not None:
            digest.update(np.ascontiguousarray(item.probability).tobytes())
    return uid_of(digest.digest())


def made_at(header: Dataset) -> tuple[str, str]:
    """Date and time of an object: those of its images, so that equal masks are equal files whenever they are made.

    The first that the header has of Content, Acquisition, Series and Study Date, with its time; 1 January 1900 where
    it has none.
    """
    for kind in _DATED:
        date, time = (str(value_of(header, f"{kind}{part}") or "") for part in ("Date", "Time"))
        if is_date(date):
            return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else "000000"
    return "19000101", "000000"


def weights_of(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Preset and weights' checksums, by role, in words."""
    found = {}
    preset = provenance.get("preset")
    if isinstance(preset, Mapping) and preset.get("name"):
        found["preset"] = str(preset["name"])
    for role in ("encoder", "segmenter"):
        model = provenance.get(role)
        if isinstance(model, Mapping) and model.get("sha256"):
            found[role] = f"sha256:{model['sha256']}"
    return found


def targets_of(segments: Segments) -> str:
    """Who made an object's targets, in words."""
    types = {item.algorithm_type for item in segments.found}
    if types == {"AUTOMATIC"}:
        return "targets of text prompts"
    return "targets drawn by hand" if types == {"MANUAL"} else "targets of prompts and of drawing by hand"


def taken_over(header: Dataset, dataset: Dataset) -> None:
    """Put what a header says of the patient, the study and clinical trials into another object."""
    for element in header:
        if element.keyword in _STUDY or element.keyword.startswith(_MODULES):
            dataset.add(copy.deepcopy(element))


def series_number(header: Dataset) -> int:
    """Beside the images' own series, where a viewer's list has room."""
    try:
        number = int(header.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return 1000 + max(0, number)


def text_of(words: str, longest: int = _TEXT) -> str:
    """Words as DICOM's short texts allow them: without backslashes, at most so many characters."""
    return " ".join(words.replace("\\", "/").split())[:longest]


def content_of(dataset: Dataset) -> bytes:
    """The file of a dataset that has its file meta information."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def decimal(value: float) -> str:
    """A number as a decimal string of at most 16 bytes, as near as that allows."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(float(value)))


def refer_to(frame: SourceFrame) -> Dataset:
    """An item that refers to an instance, and to its frame where it has several."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class
    item.ReferencedSOPInstanceUID = frame.sop_instance
    if frame.number is not None:
        item.ReferencedFrameNumber = frame.number
    return item


def is_date(text: str) -> bool:
    """Whether a text is a day, as DICOM writes it."""
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True

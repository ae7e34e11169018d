"""Names and UIDs that stand for a patient's own in DICOM objects that are passed on."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.io.names import printable
from lexiseg.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEY_BYTES = 32
KEY_NAME = "deidentify.key"
# Identifiers that an object may keep empty, and what is true of the patient and the visit: type 2 of PS3.3.
_EMPTIED = (
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDate",
    "StudyTime",
    # A landmark, in free words.
    "PositionReferenceIndicator",
)
# A date is required there; DICOM de-identification profiles put a dummy in its place (PS3.15 E.3).
_DUMMY_DATE, _DUMMY_TIME = "19000101", "000000"
_DATED = {
    "ContentDate": _DUMMY_DATE,
    "ContentTime": _DUMMY_TIME,
    "InstanceCreationDate": _DUMMY_DATE,
    "InstanceCreationTime": _DUMMY_TIME,
    "StructureSetDate": _DUMMY_DATE,
    "StructureSetTime": _DUMMY_TIME,
}
# Classes, syntaxes and coding schemes are the same for everybody.
_WELL_KNOWN = "1.2.840.10008."


@dataclass(frozen=True, repr=False)
class Pseudonyms:
    """A keyed way from identifiers to names that say nothing: the same ones in every file that one key makes.

    Who does not have the key can neither go back nor try out who a pseudonym stands for.

    Attributes:
        key: 32 bytes.

    Raises:
        UsageError: the key has another length.

    Example:
        >>> Pseudonyms(bytes(32)).uid("1.2.3") == Pseudonyms(bytes(32)).uid("1.2.3")
        True
    """

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != _KEY_BYTES:
            raise UsageError(f"a key has {len(self.key)} bytes; expected {_KEY_BYTES}")

    @property
    def fingerprint(self) -> str:
        """By which two keys can be told apart, and nothing else learnt."""
        return hashlib.sha256(b"fingerprint" + self.key).hexdigest()[:12]

    def uid(self, uid: str) -> str:
        """What stands for a UID; DICOM's own, such as a class, stays."""
        return uid if uid.startswith(_WELL_KNOWN) else uid_of(self._digest("uid", uid))

    def name(self, patient: str) -> str:
        """What stands for a patient, as ID and as name."""
        return f"ANON-{self._digest('patient', patient).hex()[:12].upper()}"

    def apply(self, dataset: Dataset) -> None:
        """Replace a SEG's or structure set's identifiers, dates and UIDs, where they are.

        Patient ID and name become one pseudonym. Birth date, sex, accession number, physician, study ID, and study
        date and time are emptied, required dates are a dummy, and whatever else was taken over from the patient's
        and study's modules goes.
        """
        import pydicom

        # A name may be spelt in several ways, an ID is one.
        known = (
            str(dataset.get(keyword) or "").strip() for keyword in ("PatientID", "PatientName", "StudyInstanceUID")
        )
        label = self.name(next(filter(None, known), ""))
        for element in list(dataset):
            keyword = element.keyword
            if keyword in ("StudyInstanceUID", "SpecificCharacterSet"):
                continue
            if keyword in _EMPTIED:
                dataset[element.tag].value = None
            elif keyword in _DATED:
                dataset[element.tag].value = _DATED[keyword]
            elif keyword not in _OWN:
                del dataset[element.tag]
        dataset.PatientID = dataset.PatientName = label
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = f"lexiseg {__version__}: identifiers, dates and UIDs replaced with a key"
        dataset.LongitudinalTemporalInformationModified = "REMOVED"

        def replace(_: Any, element: pydicom.DataElement) -> None:
            if element.VR == "UI" and element.value:
                several = element.VM > 1
                values = [self.uid(str(each)) for each in (element.value if several else [element.value])]
                element.value = values if several else values[0]

        dataset.walk(replace)
        if getattr(dataset, "file_meta", None) is not None:
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self.key, f"{kind}:{text}".encode(), hashlib.sha256).digest()


# The elements of a SEG or structure set that hold what we wrote, or numbers and codes of the image.
_OWN = frozenset(
    """
    SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription InstanceNumber Modality
    FrameOfReferenceUID Manufacturer ManufacturerModelName DeviceSerialNumber
    SoftwareVersions ImageType PixelData Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation
    SamplesPerPixel PhotometricInterpretation PixelPaddingValue NumberOfFrames LossyImageCompression
    LossyImageCompressionRatio LossyImageCompressionMethod PresentationLUTShape SegmentationType
    SegmentationFractionalType MaximumFractionalValue SegmentsOverlap SegmentSequence ContentLabel
    ContentDescription ContentCreatorName SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    DimensionOrganizationSequence DimensionOrganizationType DimensionIndexSequence ReferencedSeriesSequence
    SourceImageSequence StructureSetLabel StructureSetDescription StructureSetROISequence ROIContourSequence
    RTROIObservationsSequence ReferencedFrameOfReferenceSequence ApprovalStatus
    """.split()  # noqa: SIM905  (a hundred quotes would hide the names)
)


def uid_of(digest: bytes) -> str:
    """A UID of 16 bytes or more: the root 2.25 with their number (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def key_place() -> Path:
    """Where the key of this person lies: LEXISEG_HOME, else `lexiseg` in XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get("LEXISEG_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "lexiseg"
    return base.expanduser() / KEY_NAME


def own_pseudonyms() -> Pseudonyms:
    """The pseudonyms of this person's key, which is made on first use and readable by nobody else.

    Raises:
        UsageError: the key's file cannot be read, or holds no key.
        UnwritableResult: it cannot be made.
    """
    path = key_place()
    label = printable(str(path))
    try:
        if not path.exists():
            _make(path)
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no key"
        raise UsageError(f"{label}: the key of --deidentify cannot be read ({reason}); remove or repair it") from error
    try:
        return Pseudonyms(key)
    except UsageError as error:
        raise UsageError(f"{label}: {error}; remove or repair it") from error


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link never replaces the key that another process made meanwhile.
            path.hardlink_to(temporary)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        raise UnwritableResult(
            f"{printable(str(path))}: the key of --deidentify cannot be made ({error.strerror}); "
            "set LEXISEG_HOME to a folder of yours"
        ) from error

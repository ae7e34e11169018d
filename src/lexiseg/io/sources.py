"""One scan as it lies on disk: a file, a series of files, one volume of several."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.describe import Description
from lexiseg.io.names import printable, safe_id
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, ReadOptions, companions, reader_of, reading, regular_head
from lexiseg.values.scans import Scan


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What is read of folders, and how.

    Attributes:
        series: of a folder's DICOM series, those that these choose: a Series Instance UID, a series number, ":N" for
            the N-th in the order of `lexiseg info`, or words of the description.
        all_series: read all of them.
        all_patients: read folders that hold files of more than one patient.
        volume: which of several volumes of a series or file, from 1.
        stack: read a folder's pictures, or the pages of a TIFF, as the slices of one volume.
        spacing: mm from slice to slice, row to row and column to column, of a stack.

    Raises:
        UsageError: they contradict each other, or are out of range.

    Example:
        >>> SourceOptions(volume=2).record()
        {'volume': 2}
    """

    series: tuple[str, ...] = ()
    all_series: bool = False
    all_patients: bool = False
    volume: int | None = None
    stack: bool = False
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.series and self.all_series:
            raise UsageError("--series and --all-series are given; expected one of them")
        if self.volume is not None and self.volume < 1:
            raise UsageError(f"--volume is {self.volume}; expected 1 or more")
        if self.stack != (self.spacing is not None):
            raise UsageError("a stack of pictures needs both --stack and --spacing SLICE,ROW,COLUMN in mm")
        if self.spacing is not None and not all(0 < each < float("inf") for each in self.spacing):
            raise UsageError(f"--spacing is {self.spacing}; expected three lengths in mm above 0")

    def record(self) -> dict[str, Any]:
        """What was asked for beside the defaults, as plain values."""
        given = {"series": list(self.series), "all_series": self.all_series, "all_patients": self.all_patients,
                 "volume": self.volume, "stack": self.stack, "spacing": list(self.spacing or ())}  # fmt: skip
        return {name: value for name, value in given.items() if value}


class Content(Protocol):
    """What a source of several files is made of."""

    def read(self, options: ReadOptions, place: Path) -> Scan:
        """The scan.

        Raises:
            UnreadableScan: the reason alone.
        """

    def describe(self, options: ReadOptions) -> Description:
        """What the headers say; see `Reader.describe`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """One scan as it lies on disk.

    Attributes:
        path: the file that is read; of several their folder.
        place: what it is called, and named after: the path as it was given; in a zip, the path within it.
        files: every file that it is made of, as the user has them: a zip counts as one.
        content: what a series or a stack is made of; None for a file that says everything itself.
        volume: see `SourceOptions`.
        error: why it cannot be read, one line that begins with its place; "" for a sound one.
        keep: what must live as long as this, such as the folder that a zip was extracted to.
    """

    path: Path
    place: Path
    files: tuple[Path, ...]
    content: Content | None = None
    volume: int | None = None
    error: str = ""
    keep: Any = field(default=None, repr=False)

    @classmethod
    def of_file(cls, path: str | Path, *, volume: int | None = None) -> Source:
        """A file that is named; whether it is a scan, reading it will tell."""
        path = Path(path)
        return cls(path=path, place=path, files=(path, *companions(path)), volume=volume)

    @classmethod
    def failed(cls, place: str | Path, error: str) -> Source:
        """What cannot be read, with the reason."""
        place = Path(place)
        return cls(path=place, place=place, files=(), error=error)

    @property
    def shown(self) -> str:
        """The place, for tables and messages."""
        return printable(str(self.place))


def read_source(
    source: Source, *, id: str | None = None, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS
) -> Scan:
    """Read a scan.

    Args:
        source: from `lexiseg.io.find.find_sources`.
        id: the scan's id; the place's name without its extension when None.
        max_pixels: see `lexiseg.io.read.read_scan`.
        max_voxels: see there.

    Raises:
        UnreadableScan: see there.

    Example:
        >>> read_source(Source.of_file("scan.png")).shape
        (256, 256)
    """
    if source.error:
        raise UnreadableScan(source.error)
    options = ReadOptions(
        id=id or safe_id(source.place), max_pixels=max_pixels, max_voxels=max_voxels, volume=source.volume
    )
    with reading(source.place):
        if source.content is not None:
            return _kept(source.content.read(options, source.path), source)
        return _kept(reader_of(source.path, regular_head(source.path)).read(source.path, options), source)


def _kept(scan: Scan, source: Source) -> Scan:
    """A scan whose files live as long as it does."""
    from lexiseg.io.dicom.files import DicomInstances

    if source.keep is None or not isinstance(scan.header, DicomInstances):
        return scan
    return replace(scan, header=replace(scan.header, keep=source.keep))


def describe_source(source: Source, *, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS) -> Description:
    """What a scan's header says; what is wrong with it is said in the description."""
    options = ReadOptions(id=safe_id(source.place), max_pixels=max_pixels, max_voxels=max_voxels, volume=source.volume)
    unread = Description(kind="not-an-image", path=source.shown, files=max(1, len(source.files)))
    if source.error:
        return unread.refused(source.error)
    try:
        with reading(source.place):
            if source.content is not None:
                found = source.content.describe(options)
            else:
                found = reader_of(source.path, regular_head(source.path)).describe(source.path, options)
    except UnreadableScan as error:
        return unread.refused(str(error))
    reason = f"{source.shown}: {found.error}" if found.error else ""
    return replace(found, path=source.shown, files=max(found.files, len(source.files)), error=reason)

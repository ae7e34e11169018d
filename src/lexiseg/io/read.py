"""One way in: any supported file to a Scan; the port that a new file format implements."""

from __future__ import annotations

import importlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.names import HEAD_BYTES, printable, scan_suffix
from lexiseg.values.scans import Scan

MAX_PIXELS = 2**27
"""The default limit of an image: 134 megapixels, six times a large mammogram."""
MAX_VOXELS = 2**29
"""The default limit of a volume: 512 x 512 x 2048 voxels, 2 GiB as float32."""

READERS = (
    "lexiseg.io.images:ImageReader",
    "lexiseg.io.nifti:NiftiReader",
    "lexiseg.io.itk:NrrdReader",
    "lexiseg.io.itk:MetaReader",
    "lexiseg.io.dicom.reader:DicomReader",
)
"""Each as "module:class", imported when it is asked: the surest signatures first, since DICOM without its preamble
can only be guessed.  A new format adds its line here."""


# What libraries raise on kinds that they do not know as well as on damage.
_NOT_DAMAGE = (TypeError, AttributeError, LookupError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a caller may ask of a reader.

    Attributes:
        id: the scan's id.
        max_pixels: the most pixels (rows x columns) of an image.
        max_voxels: the most voxels of a volume.
        volume: which of a file's or a series' volumes, from 1; None where there is one.
    """

    id: str
    max_pixels: int
    max_voxels: int
    volume: int | None = None


def chosen_volume(count: int, asked: int | None) -> int:
    """The index, from 0, of the volume that is read.

    Raises:
        UnreadableScan: there are several and none is chosen, or there is none of that number; the reason alone.
    """
    if asked is None and count > 1:
        raise UnreadableScan(f"it holds {count} volumes; choose one of them with --volume 1 to {count}")
    if asked is not None and not 1 <= asked <= count:
        raise UnreadableScan(f"there is no volume {asked} in it; expected --volume 1 to {count}")
    return (asked or 1) - 1


class CappedFile(io.BufferedReader):
    """A file opened for reading that never allocates more than it holds, whatever length its content claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; all that is left when it is negative."""
        if size is None or size < 0:
            return super().read()
        return super().read(min(size, max(0, self._length - self.tell())))


@runtime_checkable
class Reader(Protocol):
    """Reads one family of file formats.

    `can_read` decides from the content first; the name counts only where the format has no signature. `read`
    must check every size that the header claims before it allocates for it. It raises UnreadableScan with the
    reason alone (the caller puts the file's name before it), and may let its library's own exceptions pass:
    the caller turns them into UnreadableScan.
    """

    name: str

    def can_read(self, head: bytes, path: Path) -> bool:
        """True where the file is this reader's: `head` holds its first HEAD_BYTES bytes."""
        ...

    def read(self, path: Path, options: ReadOptions) -> Scan:
        """The scan of a regular, non-empty file for which `can_read` was true."""
        ...

    def describe(self, path: Path, options: ReadOptions) -> Description:
        """What the file's header says of the scan that `read` gives; its pixels are not decoded."""
        ...


def read_scan(
    path: str | Path,
    *,
    id: str | None = None,
    series: str | None = None,
    volume: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_voxels: int = MAX_VOXELS,
) -> Scan:
    """Read a scan: PNG, JPEG, TIFF, BMP, WebP, DICOM, NIfTI, NRRD or MetaImage, or a folder or zip of a DICOM series.

    The content decides the format, so a wrongly named file is still read (and noted). How intensities become
    [0, 1] and which orientation is applied is said by `ImageReader`, `DicomReader` and `NiftiReader`, and for
    each scan in its notes. How a volume is cut and windowed is decided later, by `Volume.planes`.

    Args:
        path: the file; or a folder or zip that holds one scan.
        id: the scan's id; the file's name without its extension when None.
        series: which DICOM series of a folder or zip, see `lexiseg.io.sources.SourceOptions`.
        volume: which of several volumes, from 1.
        max_pixels: the most pixels of an image; checked before anything is decoded. Pillow's own limit of
            179 megapixels holds besides.
        max_voxels: the most voxels of a volume; checked before anything is decompressed.

    Returns:
        An `Image`, float32 in [0, 1], (H, W) or (H, W, 3); or a `Volume` (D, H, W) in its own units.

    Raises:
        UnreadableScan: missing, empty, truncated, no scan at all, too large, no finite pixel, all pixels equal, or
            several volumes of which none is chosen. The message is one line and begins with the file's name.
        UsageError: the folder holds no scan, or several series of which none is chosen.

    Example:
        >>> read_scan("scan.png").shape
        (256, 256)
    """
    # Here, because it imports this module.
    from lexiseg.io.find import only_source
    from lexiseg.io.sources import SourceOptions, read_source

    chosen = SourceOptions(series=() if series is None else (series,), volume=volume)
    source = only_source(path, chosen)
    return read_source(source, id=id, max_pixels=max_pixels, max_voxels=max_voxels)


def reader_of(path: Path, head: bytes) -> Reader:
    """The reader of a file by its first bytes.

    Raises:
        UnreadableScan: there is none; the reason alone.
    """
    reader = next((each for each in readers() if each.can_read(head, path)), None)
    if reader is None:
        raise UnreadableScan(_no_reader(path))
    return reader


def companions(path: Path) -> tuple[Path, ...]:
    """The other files that a file is made of: the .img of a .hdr, the data of a .nhdr or .mhd."""
    suffix = path.suffix.lower()
    if suffix in (".hdr", ".img"):
        from lexiseg.io.nifti import other_half

        half = other_half(path)
        return () if half is None else (half,)
    if suffix in (".nhdr", ".mhd", ".nrrd", ".mha"):
        from lexiseg.io.grid_headers import meta_header, nrrd_header

        try:
            data = (meta_header if suffix in (".mhd", ".mha") else nrrd_header)(path).data
        # Whatever is wrong with it, reading it tells.
        except (UnreadableScan, OSError, ValueError):
            return ()
        return () if data == path else (data,)
    return ()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into UnreadableScan, one line that begins with the file's name."""
    label = printable(str(path))
    try:
        # The libraries' warnings quote header values, which may be a patient's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableScan as error:
        raise UnreadableScan(f"{label}: {printable(str(error))}") from error
    except MemoryError as error:
        raise UnreadableScan(f"{label}: reading it needs more memory than there is") from error
    # The libraries raise anything at all on damaged files, from SyntaxError to classes of their own.
    except Exception as error:
        raise UnreadableScan(f"{label}: {_damage(error)}") from error


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a library's logger silent in this thread: what it says of a repair quotes headers.

    Other threads' records pass, and nothing of the logger's own settings changes.
    """
    thread = threading.get_ident()

    def drop(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger(name)
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def regular_head(path: Path) -> bytes:
    """The first HEAD_BYTES bytes of a regular file, without ever waiting on a pipe or a device.

    Raises:
        UnreadableScan: it is missing, empty, forbidden or not a regular file; the reason alone.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableScan("it is a folder; expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableScan("it is a pipe, socket or device; expected a regular file")
        if status.st_size == 0:
            raise UnreadableScan("the file is empty (0 bytes)")
        with path.open("rb") as handle:
            return handle.read(HEAD_BYTES)
    except FileNotFoundError as error:
        reason = "it is a link that leads nowhere" if path.is_symlink() else "no such file"
        raise UnreadableScan(reason) from error
    except PermissionError as error:
        raise UnreadableScan("no permission to read it") from error
    except (OSError, ValueError) as error:
        raise UnreadableScan(f"it cannot be opened ({getattr(error, 'strerror', None) or error})") from error


def readers() -> Iterator[Reader]:
    """One reader of each format, in the order of `READERS`."""
    for entry in READERS:
        module, _, name = entry.partition(":")
        yield getattr(importlib.import_module(module), name)()


def _no_reader(path: Path) -> str:
    suffix = scan_suffix(path) or path.suffix
    named = f"its name ends in {suffix} but its" if suffix else "its"
    return (
        f"{named} content is not PNG, JPEG, TIFF, BMP, WebP, DICOM, NIfTI, NRRD or MetaImage; check or convert the file"
    )


def _damage(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"it cannot be read ({os.strerror(error.errno)})"
    # Not the library's own words: they may fill lines, or quote a header's value, which may be a patient's.
    name = type(error).__name__
    if isinstance(error, _NOT_DAMAGE):
        return f"it is of a kind that is not supported, or damaged (reading it ended in {name}); export it again"
    return f"it is damaged or truncated (decoding it ended in {name}); copy or export it again"

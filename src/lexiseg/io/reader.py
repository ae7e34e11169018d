"""The port that a new file format implements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lexiseg.values.scans import Scan


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a caller may ask of a reader.

    Attributes:
        id: the scan's id.
        max_pixels: the most pixels (rows x columns) of an image.
        max_voxels: the most voxels of a volume.
    """

    id: str
    max_pixels: int
    max_voxels: int


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

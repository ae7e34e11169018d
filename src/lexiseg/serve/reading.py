"""What a visitor sends becomes scans; names are labels, never paths."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lexiseg.errors import UnreadableScan
from lexiseg.io.names import printable, scan_suffix
from lexiseg.serve.phantoms import phantom_scan
from lexiseg.serve.scans import Source
from lexiseg.serve.settings import Limits

if TYPE_CHECKING:
    from lexiseg.values.scans import Scan

_LABEL = 120


def label_of(name: str) -> str:
    """A file's name as a label: its last part, printable and short."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return printable(last)[:_LABEL] or "scan"


def stored_name(number: int, name: str) -> str:
    """What a file that is sent is called on disk: a number, and its suffix where it is a known one."""
    return f"{number:06d}{scan_suffix(name)}"


def read_source(source: Source, folder: Path, limits: Limits) -> Scan:
    """Read a scan that was sent, or make a phantom again.

    Raises:
        UnreadableScan: see `lexiseg.read_scan`; the line begins with the label, and names no path.
    """
    from lexiseg.io.names import safe_id
    from lexiseg.io.read import read_scan

    if source.phantom:
        return phantom_scan(source.phantom)
    path = folder / source.files[0]
    try:
        return read_scan(path, id=safe_id(source.name), max_pixels=limits.pixels, max_voxels=limits.voxels)
    except UnreadableScan as error:
        prefix = f"{printable(str(path))}: "
        raise UnreadableScan(f"{source.name}: {str(error).removeprefix(prefix)}") from error

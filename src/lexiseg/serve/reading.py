"""What a visitor sends becomes scans: files, folders of series, zips. Names are labels, never paths."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from lexiseg.errors import LexisegError, UnreadableScan, UnwritableResult, UsageError
from lexiseg.io.names import printable, scan_suffix
from lexiseg.serve.phantoms import phantom_scan
from lexiseg.serve.scans import Source
from lexiseg.serve.settings import Limits

if TYPE_CHECKING:
    from lexiseg.io import sources
    from lexiseg.values.scans import Scan

FILES = "files"
"""The folder, in a scan's own, of the files that it is read from."""
_LABEL = 120
_COMMAND = "use the command lexiseg segment"
_ADVICE = (
    (
        re.compile(r"choose one of them with --volume 1 to \d+"),
        f"send one in a file of its own, or {_COMMAND} --volume N",
    ),
    (re.compile(r"in Python read_scan\(\.\.\., max_(?:pixels|voxels)=N\)"), f"{_COMMAND}, which takes larger ones"),
)
"""What readers advise a program, and what a visitor of a page can do instead."""
_TIMES = 4
"""How many times the bytes of an upload its zips may hold."""


@dataclass(frozen=True)
class Piece:
    """One scan of an upload, still where it was stored.

    Attributes:
        label: what it is called.
        source: what it is read from.
    """

    label: str
    source: sources.Source


@dataclass
class Upload:
    """What was sent at once, stored in a folder.

    Attributes:
        folder: where.
        names: stored file -> the name that it was sent under.
        refused: a line on each file that cannot be a scan.
    """

    folder: Path
    names: dict[Path, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def store(self, file: IO[bytes], name: str) -> None:
        """Keep a file.

        Raises:
            UnwritableResult: the file system refused.
        """
        path = self.folder / f"{len(self.names):06d}{scan_suffix(name)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("xb") as handle:
                shutil.copyfileobj(file, handle, 2**20)
        except OSError as error:
            raise _full(error) from error
        self.names[path] = name

    def pieces(self, limits: Limits) -> Iterator[Piece]:
        """The scans in it; zips are opened, series put together.

        Raises:
            UnwritableResult: the file system refused.
        """
        from lexiseg.io.find import find_sources
        from lexiseg.io.sources import Source as Found
        from lexiseg.io.sources import SourceOptions

        for path in [path for path in self.names if _is_archive(path)]:
            self._open(path, limits)
        if len(self.names) == 1 and next(iter(self.names)).is_file():
            # Whatever it is: reading it will tell.
            ((path, name),) = self.names.items()
            yield Piece(label_of(name), Found.of_file(path))
            return
        if not self.names:
            return
        try:
            found = find_sources([self.folder], SourceOptions(all_series=True, all_patients=True))
        except UsageError:
            self.refused.append("nothing that was sent is a scan; expected pictures, NIfTI, NRRD, MetaImage or DICOM")
            return
        short = Counter(self._label(source) for source in found)
        labels: Counter[str] = Counter()
        for source in found:
            label = self._label(source)
            if short[label] > 1:
                # The folder may be all that says whose scan it is.
                label = self._label(source, folders=1)
            labels[label] += 1
            yield Piece(label if labels[label] == 1 else f"{label} ({labels[label]})", source)
        taken = {Path(file) for source in found for file in source.files}
        left = [name for path, name in self.names.items() if path not in taken and path.is_file()]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            self.refused.append(f"{label_of(left[0])}{more}: no picture or volume, left out")

    def remove(self) -> None:
        """Take what was stored away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, path: Path, limits: Limits) -> None:
        """Put a zip's files in its place."""
        from lexiseg.io.zips import ZipLimits, extract_zip

        name = self.names.pop(path)
        try:
            with extract_zip(path, ZipLimits(files=limits.files, bytes=_TIMES * limits.bytes)) as opened:
                target = path.with_suffix(".opened")
                shutil.copytree(opened, target)
        except UnreadableScan as error:
            self.refused.append(f"{label_of(name)}: {error}")
        except OSError as error:
            raise _full(error) from error
        else:
            self.names[target] = name
        path.unlink(missing_ok=True)

    def _label(self, source: sources.Source, folders: int = 0) -> str:
        """A file's own name, of a folder's series the folder's; before it so many of the folders that it lies in."""
        first, series = Path(source.files[0]), len(source.files) > 1

        def own(parts: Sequence[str]) -> str:
            named = parts[:-1] if series and len(parts) > 1 else parts
            return " ".join(named[-1 - folders :])

        for path, name in self.names.items():
            if path == first:
                return label_of(own(PurePosixPath(name.replace("\\", "/")).parts))
            if path in first.parents:
                inside, stem = first.relative_to(path).parts, PurePosixPath(name).stem
                return label_of(own((stem, *inside)) if series else f"{stem} {own(inside)}")
        return "scan"


def label_of(name: str) -> str:
    """A file's name as a label: its last part, printable and short."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return printable(last)[:_LABEL] or "scan"


def settle(piece: Piece, folder: Path) -> tuple[str, ...]:
    """Put a scan's files into its own folder, in `FILES`; their names there.

    Raises:
        UnwritableResult: the file system refused.
    """
    files = [Path(each) for each in piece.source.files]
    # A header that names its other file needs it by that name; nothing else does.
    own = piece.source.content is None and len(files) > 1
    names = [file.name if own else f"{number:06d}{scan_suffix(file)}" for number, file in enumerate(files)]
    try:
        (folder / FILES).mkdir(mode=0o700)
        for file, name in zip(files, names, strict=True):
            os.replace(file, folder / FILES / name)  # noqa: PTH105  (Path.replace is the same)
    except OSError as error:
        raise _full(error) from error
    return tuple(names)


def read_source(source: Source, folder: Path, limits: Limits) -> Scan:
    """Read a scan that was sent, or make a phantom again.

    Raises:
        UnreadableScan: see `lexiseg.read_scan`; the line begins with the label, and names no path.
    """
    from lexiseg.io.find import find_sources
    from lexiseg.io.names import safe_id
    from lexiseg.io.sources import Source as Found
    from lexiseg.io.sources import SourceOptions
    from lexiseg.io.sources import read_source as read

    if source.phantom:
        return phantom_scan(source.phantom)
    place = folder / FILES
    with _called(source.name, place):
        if len(source.files) == 1:
            found = Found.of_file(place / source.files[0])
        else:
            found = find_sources([place], SourceOptions(all_series=True, all_patients=True))[0]
        return read(found, id=safe_id(source.name), max_pixels=limits.pixels, max_voxels=limits.voxels)


@contextmanager
def _called(name: str, place: Path) -> Iterator[None]:
    """Errors name the scan as the visitor does."""
    try:
        yield
    except LexisegError as error:
        text = str(error)
        _, found, rest = text.partition(printable(str(place)))
        reason = rest.partition(": ")[2] if found else text
        for pattern, advice in _ADVICE:
            reason = pattern.sub(advice, reason)
        raise UnreadableScan(f"{name}: {reason}") from error


def _is_archive(path: Path) -> bool:
    from lexiseg.io.zips import is_zip

    with path.open("rb") as file:
        return is_zip(file.read(4))


def _full(error: OSError) -> UnwritableResult:
    return UnwritableResult(f"the upload could not be saved ({error.strerror or 'refused'}); free some space")

"""files.csv: which files belong to which scan of a run, and what they were when it wrote them.

It grows by whole lines, so that no kill corrupts it. What it does not list no run wrote, and lexiseg neither
overwrites nor removes it.
"""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from lexiseg.errors import UnwritableResult, UsageError
from lexiseg.files import atomic_write, sha256_of
from lexiseg.io.names import printable, slugs
from lexiseg.runs.table import append_lines, csv_line

logger = logging.getLogger(__name__)

FILES_NAME = "files.csv"
RUN = ""
"""The id under which files are listed that are of no one scan, such as a data set of all of them."""
COLUMNS = ("id", "role", "file", "size", "mtime_ns", "sha256")
_HEADER = csv_line(COLUMNS)
# The chunk IEND (PNG 11.2.5), which decoders do without.
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_BEGUN, _INPUT, _OUTPUT, _NOTHING = "begun", "input", "output", "nothing"


class State(Enum):
    """What has become of a file."""

    SAME = "same"
    GONE = "gone"
    TORN = "torn"
    """Other bytes, which cannot be read."""
    CHANGED = "changed"
    """Other bytes, which can be read: somebody's work."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of files.csv.

    Attributes:
        id: the scan's.
        role: "input" for a file of the scan, "output" for one that was written, "nothing" where none was,
            "begun" for the announcement that files of this scan are about to be written.
        file: the output's name; the input as it was given; of an announcement the phrases' slugs.
        size: in bytes.
        mtime_ns: when it was last modified, in nanoseconds.
        sha256: of its bytes.
    """

    id: str
    role: str
    file: str
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""

    @classmethod
    def of(cls, path: Path, *, id: str, role: str, file: str) -> Entry:
        """What a file is now.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()
        return cls(
            id=id, role=role, file=file, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_of(path)
        )

    def to_line(self) -> str:
        """The entry as CSV, with its line break and no other."""
        return csv_line([printable(str(getattr(self, name))) for name in COLUMNS])

    def is_same(self, path: Path) -> bool:
        """Whether a file holds these bytes; they are read only where its time of modification is another."""
        try:
            status = path.stat()
            if status.st_size != self.size:
                return False
            return status.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256
        except OSError:
            return False

    def state(self, path: Path) -> State:
        """What has become of the file."""
        if self.is_same(path):
            return State.SAME
        if not os.path.lexists(path):
            return State.GONE
        return State.CHANGED if _is_whole(path) else State.TORN


@dataclass
class Ledger:
    """The files of a run's folder, by scan.

    Attributes:
        slugs: of each scan that was begun, those of its phrases.
        entries: of each scan that was finished, its input and outputs.
    """

    slugs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)

    def names(self, id: str) -> list[str] | None:
        """The outputs of a scan; None where it was begun and not finished, or is not known."""
        return [each.file for each in self.outputs(id)] if self.entries.get(id) else None

    def finished(self, id: str) -> bool:
        """Whether a scan's outputs are known: at least one, or that there were none."""
        return any(each.role in (_OUTPUT, _NOTHING) for each in self.entries.get(id, ()))

    def inputs(self, id: str) -> list[Entry]:
        """A scan's own files as the run read them, in the order of their paths; [] where that is not known."""
        return [each for each in self.entries.get(id, ()) if each.role == _INPUT]

    def outputs(self, id: str) -> list[Entry]:
        """What was written of a scan."""
        return [each for each in self.entries.get(id, ()) if each.role == _OUTPUT]

    def inputs_are_same(self, id: str, files: Sequence[Path]) -> bool:
        """Whether a scan's own files are what they were, none more and none fewer, in the order of their paths."""
        entries = self.inputs(id)
        if not entries or len(entries) != len(files):
            return False
        return all(entry.is_same(file) for entry, file in zip(entries, sorted(files), strict=True))

    def states(self, id: str, folder: Path) -> dict[str, State]:
        """What has become of a scan's outputs, by name."""
        return {each.file: each.state(folder / each.file) for each in self.outputs(id)}

    def only(self, ids: Iterable[str]) -> Ledger:
        """The files of these scans alone."""
        kept = {scan: self.entries[scan] for scan in ids if scan in self.entries}
        return Ledger({scan: self.slugs.get(scan, ()) for scan in kept}, kept)

    def _take(self, entry: Entry) -> None:
        if entry.role == _BEGUN:
            self.slugs[entry.id] = tuple(entry.file.split())
            self.entries[entry.id] = []
        else:
            self.entries.setdefault(entry.id, []).append(entry)


def begin(folder: Path, id: str, phrases: Sequence[str]) -> None:
    """Announce that files of a scan are about to be written, so that a kill leaves none that nobody knows.

    Raises:
        UnwritableResult: the file system refused.
    """
    append_lines(folder / FILES_NAME, [Entry(id=id, role=_BEGUN, file=" ".join(slugs(phrases))).to_line()])


def finish(folder: Path, id: str, files: Sequence[Path], shown: str, outputs: Sequence[Path]) -> None:
    """Record a scan's input, of a series each of its files, and its outputs as they are now.

    Raises:
        UnwritableResult: the file system refused.
    """
    try:
        entries = [Entry.of(path, id=id, role=_OUTPUT, file=path.name) for path in outputs]
        told = [shown] if len(files) == 1 else [str(path) for path in sorted(files)]
        inputs = zip(sorted(files), told, strict=True)
        entries = [*(Entry.of(path, id=id, role=_INPUT, file=file) for path, file in inputs), *entries]
    except OSError as error:
        raise UnwritableResult(f"{folder}: what was written cannot be read again ({error.strerror})") from error
    if not outputs:
        # Such as a SEG of what is absent.
        entries.append(Entry(id=id, role=_NOTHING, file=""))
    append_lines(folder / FILES_NAME, [entry.to_line() for entry in entries])


def begin_exports(folder: Path, names: Sequence[str]) -> None:
    """Announce files or folders, by name, of all scans together.

    Raises:
        UnwritableResult: the file system refused.
    """
    append_lines(folder / FILES_NAME, [Entry(id=RUN, role=_BEGUN, file=" ".join(names)).to_line()])


def finish_exports(folder: Path, outputs: Sequence[Path]) -> None:
    """Record files of all scans together as they are now; they lie in `folder`, at any depth.

    Raises:
        UnwritableResult: the file system refused.
    """
    try:
        entries = [Entry.of(path, id=RUN, role=_OUTPUT, file=path.relative_to(folder).as_posix()) for path in outputs]
    except OSError as error:
        raise UnwritableResult(f"{folder}: what was written cannot be read again ({error.strerror})") from error
    append_lines(folder / FILES_NAME, [entry.to_line() for entry in entries])


def read_ledger(folder: Path) -> Ledger:
    """The files of a run's folder; nothing where there is no files.csv.

    A line that a kill tore off, or that is none, is passed over: its scan then counts as not done.

    Raises:
        UsageError: the file cannot be read, or no run wrote it.
    """
    path = folder / FILES_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Ledger()
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror})") from error
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()
    if lines and lines[0] != _HEADER.rstrip("\n"):
        raise UsageError(f"{path}: no run of lexiseg wrote it; choose another folder or move it away")
    ledger = Ledger()
    for cells in csv.reader(lines[1:]):
        if len(cells) == len(COLUMNS) and cells[3].isdecimal() and cells[4].lstrip("-").isdecimal():
            scan, role, file, size, mtime, digest = cells
            ledger._take(Entry(id=scan, role=role, file=file, size=int(size), mtime_ns=int(mtime), sha256=digest))
    return ledger


def write_ledger(folder: Path, ledger: Ledger) -> Path:
    """Write files.csv in one step.

    Raises:
        UnwritableResult: the file system refused.
    """
    begun = {scan: Entry(id=scan, role=_BEGUN, file=" ".join(words)) for scan, words in ledger.slugs.items()}
    entries = [each for scan, found in ledger.entries.items() for each in (begun.get(scan), *found) if each]
    text = _HEADER + "".join(entry.to_line() for entry in entries)
    return atomic_write(folder / FILES_NAME, lambda file: file.write(text.encode()))


def _is_whole(path: Path) -> bool:
    """Whether a file of ours can be read to its end."""
    check = next((each for suffix, each in _WHOLE.items() if path.name.endswith(suffix)), _whole_json)
    try:
        return check(path)
    # The decoders raise anything at all on damaged files.
    except Exception:
        logger.debug("%s cannot be read", path.name, exc_info=True)
        return False


def _whole_gzip(path: Path) -> bool:
    with gzip.open(path) as stream:
        while stream.read(2**20):
            pass
    return True


def _whole_png(path: Path) -> bool:
    if not path.read_bytes().endswith(_PNG_END):
        return False
    with Pillow.open(path) as picture:
        picture.load()
    return True


def _whole_nrrd(path: Path) -> bool:
    content = path.read_bytes()
    gzip.decompress(content[content.index(b"\n\n") + 2 :])
    return True


def _whole_dicom(path: Path) -> bool:
    import pydicom

    # pydicom reads what is there. The last element of a structure set is Approval Status, of a SEG its pixels.
    dataset: Any = pydicom.dcmread(path)
    if dataset.Modality == "RTSTRUCT":
        return bool(dataset.get("ApprovalStatus"))
    bits = dataset.Rows * dataset.Columns * int(dataset.NumberOfFrames) * dataset.BitsAllocated
    return bool(len(dataset.PixelData) * 8 >= bits)


def _whole_stl(path: Path) -> bool:
    content = path.read_bytes()
    return len(content) == 84 + 50 * int.from_bytes(content[80:84], "little")


def _whole_json(path: Path) -> bool:
    content = path.read_bytes()
    json.loads(content)
    return content.endswith(b"\n")


_WHOLE = {
    ".gz": _whole_gzip,
    ".png": _whole_png,
    ".nrrd": _whole_nrrd,
    ".dcm": _whole_dicom,
    ".stl": _whole_stl,
}

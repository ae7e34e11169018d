"""The values between a data set's files and a manifest's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lexiseg.errors import BadDataset
from lexiseg.io.names import printable


@dataclass(frozen=True)
class Derived:
    """A file that the data set does not hold as such, and how to make it.

    Attributes:
        reads: the files of the data set that it is made of.
        write: writes it into a folder under a stem, in one step, and returns where; raises UnreadableScan
            where `reads` do not allow it.
    """

    reads: tuple[Path, ...]
    write: Callable[[Path, str], Path]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scan of a data set with what its layout says of it: a manifest's row to be.

    Attributes:
        source: the file that the scan comes from.
        image: the scan where it has to be made; None where `source` is it.
        mask: the true mask; None where the data set has none for this scan.
        name: the id that is wanted; "" takes the source's name without its extension.
        group: the patient, where the data set tells patients apart.
        label: the class.
        split: the part ("train", "val", "test") that the data set itself puts it in.
        extra: further columns.
    """

    source: Path
    image: Derived | None = None
    mask: Path | Derived | None = None
    name: str = ""
    group: str = ""
    label: str = ""
    split: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a layout found.

    Attributes:
        cases: the scans, in the order of the manifest.
        problems: one line for each thing that had to be left out.
        target: what the masks show; "" where the layout has masks of one kind.
    """

    cases: Sequence[Case]
    problems: Sequence[str] = ()
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as unpacked, and what is wanted of it.

    Attributes:
        folder: the folder that was named; the layout may lie in folders below it.
        target: which of the layout's masks; "" for its first.
        channel: which channel of images that are stored as several files or frames.
    """

    folder: Path
    target: str = ""
    channel: int = 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way in which a data set lies on disk.

    Attributes:
        name: what the command line calls it.
        about: the set, in a few words.
        looks_for: the files that make it this layout, in words that an error can use.
        find: the cases of a source; raises BadDataset where it is not of this layout.
        targets: the masks that it has, the first by default; empty where there is one kind or where only the
            data set itself can say.
    """

    name: str
    about: str
    looks_for: str
    find: Callable[[Source], Found]
    targets: tuple[str, ...] = ()


def chosen_target(asked: str, targets: Sequence[str]) -> str:
    """The target that is meant: the first where none was asked for; letter case does not count.

    Raises:
        BadDataset: there is no such target.
    """
    if not asked.strip():
        return targets[0]
    for target in targets:
        if target.casefold() == asked.strip().casefold():
            return target
    names = ", ".join(targets)
    raise BadDataset(printable(f"no target {asked[:80]!r} in this data set; expected one of: {names[:400]}"))

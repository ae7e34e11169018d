"""A data set as downloaded becomes a manifest."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path, PureWindowsPath

from lexiseg.datasets.layouts.generic import FOREGROUND
from lexiseg.datasets.layouts.layout import Case, Derived, Found, Layout, Source
from lexiseg.datasets.layouts.registry import layout_named
from lexiseg.datasets.layouts.tree import MADE_ENDING, contents
from lexiseg.datasets.manifest import ManifestRow, read_manifest, write_manifest
from lexiseg.datasets.mask_doubts import size_doubt, tell_turned
from lexiseg.datasets.splits import parse_shares, split_by_group
from lexiseg.errors import BadDataset, BadManifest, UnreadableScan, UnwritableResult
from lexiseg.files import atomic_write
from lexiseg.io import sources
from lexiseg.io.names import ITK_SUFFIXES, PAIR_SUFFIXES, printable, scan_suffix, unique_ids

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Is told how many scans of how many are done."""


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to import, and how.

    Attributes:
        layout: a name of `LAYOUTS`.
        source: the data set's folder, as unpacked; never written to, unless `out` lies in it.
        out: the manifest. What has to be made lies beside it, in a new folder of its name and "_lexiseg".
        target: which of the layout's masks; "" for its first.
        channel: which channel of images that have several.
        text: a phrase for the column text of every row; "" takes the target's name, where the layout has several.
        split: shares such as "70/15/15", for a split by patient; "" keeps the data set's own, if it has one.
        seed: of the split.
        copy: copy scans and masks beside the manifest, so that it needs the data set no more and may lie
            anywhere; otherwise it lies in the data set's folder or in one above.
        overwrite: replace a manifest that is there already. The masks that it names stay, in their folder.
    """

    layout: str
    source: Path
    out: Path
    target: str = ""
    channel: int = 0
    text: str = ""
    split: str = ""
    seed: int = 0
    copy: bool = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an import.

    Attributes:
        manifest: the CSV.
        rows: what is in it.
        missing: the ids of rows without a mask.
        problems: one line for each thing that could not be used: a scan that was left out, a mask that could
            not be made, a table that could not be read.
    """

    manifest: Path
    rows: tuple[ManifestRow, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]


def import_dataset(request: ImportRequest, *, progress: Progress | None = None) -> Imported:
    """Write a manifest of a published data set.

    Files are named where they lie; masks that have to be merged, filled or extracted, and files whose names
    a manifest cannot hold, are written beside it, in a folder of their own. So a manifest names the masks that were
    made for it, whatever is imported later or killed half way. Importing the same again gives the same manifest. A file
    that is a link out of the data set is left out.

    Args:
        request: what to import.
        progress: is called after each scan.

    Returns:
        The rows, and what is missing.

    Raises:
        UsageError: no such layout, or a split that cannot be read.
        BadDataset: the folder is not of that layout, or the manifest would lie where it cannot name it.
        UnwritableResult: the file system refused.
    """
    layout = layout_named(request.layout)
    shares = parse_shares(request.split) if request.split else None
    source, folder = _places(request, layout)
    found = layout.find(Source(folder=source, target=request.target, channel=request.channel))
    if not found.cases:
        reason = "; ".join(found.problems[:1]) or f"found {contents(source)}"
        raise BadDataset(f"{printable(str(request.source))}: no scan of the layout {layout.name}; {reason}")
    if request.target.strip() and not found.target:
        raise BadDataset(
            f"the layout {layout.name} has masks of one kind; leave --target out (--text says what they show)"
        )
    shown = "" if found.target == FOREGROUND else found.target
    maker = _Maker(source=source, folder=folder, stem=request.out.stem, copy=request.copy)
    try:
        rows, problems = _rows(found, maker, request.text or shown, progress)
        if not rows:
            raise BadDataset(f"{printable(str(request.source))}: no scan could be used; the first: {problems[0]}")
        if shares is not None:
            rows = _split(rows, shares, request.seed)
        rows = maker.settled(rows)
        if request.out.exists():  # another import may have come first
            _refuse_existing(request.out, overwrite=request.overwrite)
        tell_turned((row.image, row.mask) for row in rows)
        write_manifest(rows, folder / request.out.name)
    except BaseException:
        maker.remove()
        raise
    missing = tuple(row.id for row in rows if row.mask is None)
    return Imported(manifest=request.out, rows=tuple(rows), missing=missing, problems=tuple(problems))


def _places(request: ImportRequest, layout: Layout) -> tuple[Path, Path]:
    """The data set's folder and the manifest's, without links."""
    source, out = request.source, request.out
    named = printable(str(source))
    if not source.is_dir():
        what = "it is no folder" if os.path.lexists(source) else "no such folder"
        raise BadDataset(f"{named}: {what}; expected one with {layout.looks_for}")
    if out.is_dir() or out.name in ("", ".."):
        raise BadDataset(f"{printable(str(out))}: it is a folder; expected the manifest's file name")
    if out.exists():
        _refuse_existing(out, overwrite=request.overwrite)
    try:
        home, folder = source.resolve(), out.parent.resolve()
    except (OSError, RuntimeError) as error:
        raise BadDataset(f"{named}: the folder cannot be found (a loop of links?)") from error
    if not request.copy and not home.is_relative_to(folder):
        raise BadDataset(
            f"{printable(str(out))}: a manifest names files below its own folder, and {named} is not; "
            f"write it to {printable(str(source / out.name))}, or copy the files beside it (--copy)"
        )
    return home, folder


def _refuse_existing(out: Path, *, overwrite: bool) -> None:
    # A data set may well come with a table of its own under that very name.
    if not overwrite:
        raise BadDataset(f"{printable(str(out))}: it is there already; choose another name or add --overwrite")
    try:
        read_manifest(out)
    except BadManifest as error:
        raise BadDataset(
            f"{printable(str(out))}: there is a file of that name that is no manifest; choose another name"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Puts files where a manifest can name them."""

    source: Path
    folder: Path
    stem: str
    copy: bool

    @cached_property
    def beside(self) -> Path:
        """The folder of what is made, on first use: a new one, since manifests may name what is in an earlier one."""
        for number in count(1):
            place = self._numbered(number)
            try:
                place.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise UnwritableResult(
                    f"{printable(str(place))}: could not be made ({error.strerror}); choose another folder"
                ) from error
            break
        return place

    def _numbered(self, number: int) -> Path:
        return self.folder / f"{self.stem}{f'_{number}' if number > 1 else ''}{MADE_ENDING}"

    def remove(self) -> None:
        """Remove what was made for a manifest that was not written."""
        if (made := vars(self).pop("beside", None)) is not None:
            shutil.rmtree(made, ignore_errors=True)

    def settled(self, rows: list[ManifestRow]) -> list[ManifestRow]:
        """The rows with files of an earlier import where those are the same, byte by byte; else a line says so."""
        if "beside" not in vars(self) or self.beside == self._numbered(1):
            return rows
        made = self.beside
        earlier = takewhile(lambda place: place != made, map(self._numbered, count(1)))
        same = next((place for place in earlier if _holds(place, made)), None)
        if same is None:
            logger.warning(
                "%s stays as it is, since manifests may name what is in it; what was made now is in %s",
                printable(self._numbered(1).name), printable(made.name),
            )  # fmt: skip
            return rows

        def moved(path: Path) -> Path:
            return same / path.relative_to(made) if path.is_relative_to(made) else path

        self.remove()
        return [replace(row, image=moved(row.image), mask=row.mask and moved(row.mask)) for row in rows]

    def place(self, wanted: Path | Derived, kind: str, stem: str) -> Path:
        """A file below the manifest's folder: the data set's own, a copy, or one that is made."""
        if isinstance(wanted, Derived):
            for path in wanted.reads:
                self._refuse_unfit(path)
            return wanted.write(self.beside / kind, stem)
        self._refuse_unfit(wanted)
        if not self.copy and _can_be_named(wanted.relative_to(self.folder).as_posix()):
            return wanted
        to = self.beside / kind / f"{stem}{scan_suffix(wanted)}"
        return (
            self._copied_whole(wanted, to) if to.suffix in (*PAIR_SUFFIXES, *ITK_SUFFIXES) else self._copied(wanted, to)
        )

    def _refuse_unfit(self, path: Path) -> None:
        try:
            inside, there = path.resolve().is_relative_to(self.source), path.is_file()
        except (OSError, RuntimeError):  # a loop of links
            inside, there = True, False
        if not inside:
            raise UnreadableScan(f"{self._named(path)}: a link out of the data set; copy the file in")
        if not there:
            raise UnreadableScan(f"{self._named(path)}: a link to nothing; fetch the file it stands for")

    def _copied_whole(self, header: Path, to: Path) -> Path:
        """A copy of a volume that may lie in two files; these are in a folder of their own then."""
        source = sources.Source.of_file(header)
        found = sources.describe_source(source)
        if found.kind == "not-an-image":  # such as a header whose data is not beside it
            raise UnreadableScan(found.error)
        others = source.files[1:]
        to = to.parent / to.stem / to.name if others else to
        for other in others:
            self._refuse_unfit(other)
            # The halves of a pair have one name; else the header names its data.
            pair = to.with_suffix(other.suffix) if to.suffix in PAIR_SUFFIXES else None
            self._copied(other, pair or to.parent / other.relative_to(header.parent))
        return self._copied(header, to)

    def _copied(self, path: Path, to: Path) -> Path:
        try:
            with path.open("rb") as content:
                return atomic_write(to, lambda file: shutil.copyfileobj(content, file))
        except OSError as error:
            raise UnreadableScan(f"{self._named(path)}: it cannot be read ({error.strerror})") from error

    def _named(self, path: Path) -> str:
        return printable(str(path.relative_to(self.source)) if path.is_relative_to(self.source) else path.name)


def _holds(folder: Path, files: Path) -> bool:
    """Whether a folder has all files of another, byte by byte; none of them by a link."""
    pairs = ((path, folder / path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    return all(
        there.is_file() and there.resolve() == there and filecmp.cmp(path, there, shallow=False)
        for path, there in pairs
    )


def _can_be_named(relative: str) -> bool:
    """True where `read_manifest` gives back just this path."""
    windows = PureWindowsPath(relative)
    return printable(relative) == relative == relative.strip() and not windows.drive and "\\" not in relative


def _rows(found: Found, maker: _Maker, text: str, progress: Progress | None) -> tuple[list[ManifestRow], list[str]]:
    rows: list[ManifestRow] = []
    problems = [printable(problem) for problem in found.problems]
    for done, (case, name) in enumerate(zip(found.cases, _ids(found.cases, maker.source), strict=True), start=1):
        try:
            image = maker.place(case.image or case.source, "images", name)
        except UnreadableScan as error:
            problems.append(f"{name}: left out: {error}")
        else:
            mask = _mask(case, name, maker, problems)
            if mask is not None and (doubt := size_doubt(image, mask)):
                problems.append(f"{name}: {doubt}")
            rows.append(_row(case, name, image, mask, text))
        if progress is not None:
            progress(done, len(found.cases))
    return rows, problems


def _ids(cases: Sequence[Case], source: Path) -> list[str]:
    # An extension keeps a name with dots whole.
    named = [
        case.source.with_name(f"{case.name}{scan_suffix(case.source) or '.png'}") if case.name else case.source
        for case in cases
    ]
    return unique_ids(named, source)


def _mask(case: Case, name: str, maker: _Maker, problems: list[str]) -> Path | None:
    if case.mask is None:
        return None
    try:
        return maker.place(case.mask, "masks", name)
    except UnreadableScan as error:
        problems.append(f"{name}: without a mask: {error}")
        return None


def _row(case: Case, name: str, image: Path, mask: Path | None, text: str) -> ManifestRow:
    extra = {key: printable(value).strip() for key, value in case.extra.items()}
    return ManifestRow(
        id=name,
        image=image,
        mask=mask,
        text=printable(text).strip(),
        group=printable(case.group).strip(),
        label=printable(case.label).strip(),
        extra={**extra, "split": case.split} if case.split else extra,
    )


def _split(rows: Sequence[ManifestRow], shares: dict[str, float], seed: int) -> list[ManifestRow]:
    if not any(row.group for row in rows):
        logger.warning(
            "the data set names no patients: each scan is split as one of its own, and scans of one patient "
            "may fall into different parts"
        )
    # A scan without a group is one of its own, which no group's name can be.
    groups = [f"group {row.group}" if row.group else f"scan {row.id}" for row in rows]
    parts = split_by_group(groups, shares, seed=seed)
    return [replace(row, extra={**row.extra, "split": part}) for row, part in zip(rows, parts, strict=True)]

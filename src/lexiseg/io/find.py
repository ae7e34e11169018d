"""What a person names, as scans: files, and folders and zips with the series of a study told apart."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lexiseg.errors import UnreadableScan, UsageError
from lexiseg.io.describe import Description
from lexiseg.io.dicom.files import DICOMDIR, DICOMDIR_CLASS, meta_class
from lexiseg.io.dicom.study import Study, chosen_series, study_of
from lexiseg.io.names import HEAD_BYTES, SCAN_SUFFIXES, is_dicom, printable
from lexiseg.io.read import companions
from lexiseg.io.sources import Source, SourceOptions, describe_source
from lexiseg.io.walk import LINK, NAMED_MASK, Found, found_below
from lexiseg.io.zips import PrivateFolder, extract_zip, is_zip, name_inside, remove_abandoned

logger = logging.getLogger(__name__)


def find_sources(
    inputs: Sequence[str | Path], options: SourceOptions | None = None, *, keep_missing: bool = False
) -> list[Source]:
    """The scans that files, folders and zips hold.

    A file that is named is one scan, whatever it is: reading it will tell. Of a folder, at any depth, and of a zip

    - each picture, NIfTI, NRRD or MetaImage file is a scan;
    - DICOM files, which are known by their content, are grouped by their series: see
      `lexiseg.io.dicom.series.series_of`. Where there is a volume among several series, one must be chosen;
    - what has a scan's name, or a name without extension, and is no file that can be opened (a broken link, a pipe) is
      a scan whose reading tells the reason.

    A DICOMDIR that is named stands for its folder.

    Hidden files and folders, links to folders, and what lexiseg itself writes (NAME_mask.png and so on) are passed
    over, and so is what a study holds besides images: reports, presentation states, localizers and the like. One line
    in the log counts them by kind. Nothing is listed twice.

    Args:
        inputs: files, folders and zips.
        options: which series, and how they are read.
        keep_missing: True keeps what cannot be used among several inputs, as a source with its error, for it to fail
            as one scan of many; False refuses it at once.

    Returns:
        The sources: inputs in their order, each folder's pictures by path and its series by number.

    Raises:
        UsageError: no input, an input that is missing, a folder that may not be read, no scan at all, a series that
            must be chosen, or files of several patients.

    Example:
        >>> [source.shown for source in find_sources(["scan.png"])]
        ['scan.png']
    """
    if not inputs:
        raise UsageError("no scan was given; name at least one file or folder")
    options = options or SourceOptions()
    remove_abandoned()
    found: dict[tuple[str, ...], Source] = {}
    passed: Counter[str] = Counter()
    for each in map(Path, inputs):
        try:
            sources = _sources_of(each, options, passed, keep_missing=keep_missing)
        except UsageError as error:
            if not keep_missing or len(inputs) == 1:
                raise
            sources = [Source.failed(each, str(error))]
        for source in sources:
            # A zip is one file of many scans.
            places = source.files if len(source.files) > 1 else (source.place,)
            found.setdefault(tuple(map(place_of, places)), source)
    if passed:
        logger.warning("%s", counted(passed))
    return list(found.values())


def only_source(path: str | Path, options: SourceOptions) -> Source:
    """The one scan of a path.

    Raises:
        UsageError: a folder or zip holds none, or several.
    """
    path = Path(path)
    if not path.is_dir() and not _is_archive(path) and not _is_directory_file(path):
        if options.series:
            raise UsageError(f"{printable(str(path))}: it is a file, not a folder; a series is chosen of a folder")
        return Source.of_file(path, volume=options.volume)
    sources = find_sources([path], options)
    if len(sources) > 1:
        raise UsageError(
            f"{printable(str(path))}: it holds {len(sources)} scans; expected one: name its file, or choose a series"
        )
    return sources[0]


def describe_inputs(inputs: Sequence[str | Path], options: SourceOptions | None = None) -> list[Description]:
    """What the headers in files, folders and zips say, their pixels left alone; nothing is chosen or left out.

    Args:
        inputs: files, folders and zips.
        options: see `SourceOptions`; `series` leaves those that are chosen.

    Returns:
        Pictures and volumes by path, then series in the order in which ":N" counts them, then DICOM objects that are
        no image.

    Raises:
        UsageError: an input is missing, a folder may not be read, or there is no input.

    Example:
        >>> found = describe_inputs(["scan.png"])[0]
        >>> found.kind, found.shape, found.status
        ('image', (1, 256, 256), 'ok')
    """
    if not inputs:
        raise UsageError("no path was given; name at least one file or folder")
    options = options or SourceOptions()
    missing = [each for each in inputs if not os.path.lexists(each)]
    if missing:
        raise UsageError(f"{printable(str(missing[0]))}: no such file or folder")
    remove_abandoned()
    described: list[Description] = []
    for each in map(Path, inputs):
        try:
            survey = _survey(each, options)
        except UnreadableScan as error:
            described.append(describe_source(Source.failed(each, f"{printable(str(each))}: {error}")))
            continue
        if not survey.holds_anything:
            described.append(describe_source(Source.failed(each, _nothing_in(each, survey.passed))))
        if not options.series or survey.study is None:
            described += [describe_source(source) for source in survey.files]
        if survey.study is not None:
            described += _described_series(survey.study, options)
        if not options.series:
            described += [_not_an_image(beside) for beside in survey.beside]
    return described


def _described_series(study: Study, options: SourceOptions) -> Iterator[Description]:
    chosen = chosen_series(study, replace(options, all_patients=True)) if options.series else study.sources
    patients = study.patients_of(study.sources)
    for index, source in enumerate(study.sources, start=1):
        if source not in chosen:
            continue
        found = replace(describe_source(source), place=f":{index}")
        notes = ["localizer: left out of a folder unless it is chosen"] if source in study.localizers else []
        if patients > 1:
            notes.append(f"patients: the folder holds files of {patients}; segment needs --all-patients, or --series")
        yield replace(found, notes=(*found.notes, *notes))


def _not_an_image(found: Found) -> Description:
    place = printable(str(found.place))
    return Description(
        kind="not-an-image", path=place, status="refused", error=f"{place}: it is no image but a {found.kind}"
    )


@dataclass(frozen=True, kw_only=True)
class _Survey:
    """What one input holds.

    Attributes:
        files: scans of one file each.
        study: DICOM series; None where there is no DICOM.
        beside: DICOM objects that are no images.
        passed: how many of what was passed over.
    """

    files: list[Source] = field(default_factory=list)
    study: Study | None = None
    beside: list[Found] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)

    @property
    def holds_anything(self) -> bool:
        """Whether there is any scan, or a DICOM object that is none."""
        return bool(self.files or self.study or self.beside)


def _nothing_in(path: Path, passed: Counter[str]) -> str:
    besides = f"; {counted(passed)}" if passed else ""
    place = printable(str(path))
    return f"{place}: no scan in this folder; expected {' '.join(SCAN_SUFFIXES)} or DICOM{besides}"


def _sources_of(path: Path, options: SourceOptions, passed: Counter[str], *, keep_missing: bool) -> list[Source]:
    label = printable(str(path))
    if not os.path.lexists(path):
        if not keep_missing:
            raise UsageError(f"{label}: no such file or folder")
        return [Source.of_file(path, volume=options.volume)]
    try:
        survey = _survey(path, options)
    except UnreadableScan as error:
        return [Source.failed(path, f"{label}: {error}")]
    if survey.study is None and not survey.files:
        raise UsageError(_nothing_in(path, survey.passed))
    passed += survey.passed
    if survey.study is None:
        if options.series:
            raise UsageError(f"{label}: it holds no DICOM series to choose from; expected it without --series")
        return survey.files
    chosen = chosen_series(survey.study, options)
    left = sum(source not in chosen for source in survey.study.localizers)
    if left:
        passed["localizer"] += left
    # Who chooses a series wants that one.
    return chosen if options.series else [*survey.files, *chosen]


def _survey(path: Path, options: SourceOptions) -> _Survey:
    """What an input holds; the file that is named as one scan, whatever it is."""
    if _is_directory_file(path):
        path = path.parent
    keep: PrivateFolder | None = None
    folder = path
    if not path.is_dir():
        if not _is_archive(path):
            if options.stack:
                return _Survey(files=[_stacked([Found(path, path)], path, options)])
            return _Survey(files=[Source.of_file(path, volume=options.volume)])
        keep = extract_zip(path)
        folder = keep.path
    passed: Counter[str] = Counter()
    found = sorted(found_below(folder, passed), key=lambda each: each.path.parts)
    if keep is not None:
        found = [each.placed(name_inside(path, folder, each.path)) for each in found]
    beside = [each for each in found if each.kind]
    passed.update(each.kind for each in beside)
    plain = [each for each in found if not each.kind and not each.dicom]
    archive = path if keep is not None else None
    if options.stack:
        files = [_stacked(plain, path, options, keep=keep, archive=archive)] if plain else []
    else:
        files = [_of_found(each, options, archive, keep) for each in plain]
    study, broken = study_of([each for each in found if each.dicom and not each.kind], path, options, archive, keep)
    files += [_of_found(each, options, archive, keep) for each in broken]
    files.sort(key=lambda source: source.place.parts)
    return _Survey(files=files, study=study, beside=beside, passed=passed)


def _of_found(found: Found, options: SourceOptions, archive: Path | None, keep: object) -> Source:
    files = (archive,) if archive is not None else (found.path, *companions(found.path))
    return Source(path=found.path, place=found.place, files=files, volume=options.volume, keep=keep)


def _stacked(
    found: Sequence[Found], place: Path, options: SourceOptions, *, archive: Path | None = None, keep: object = None
) -> Source:
    from lexiseg.io.picture_stack import PictureStack

    assert options.spacing is not None
    files = tuple(each.path for each in found)
    content = PictureStack(files, options.spacing)
    inputs = (archive,) if archive is not None else files
    return Source(path=files[0].parent, place=place, files=inputs, content=content, keep=keep)


def _is_archive(path: Path) -> bool:
    return is_zip(_head(path))


def _is_directory_file(path: Path) -> bool:
    """Whether a file is the DICOMDIR of the folder that it lies in."""
    head = _head(path)
    return path.name.upper() == DICOMDIR if head and not is_dicom(head) else meta_class(head) == DICOMDIR_CLASS


def _head(path: Path) -> bytes:
    """The first bytes of a regular file; none of what cannot be read, and of a pipe, which would wait for ever."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def counted(passed: Counter[str]) -> str:
    """How many of what was passed over, in words."""
    plural = {DICOMDIR: DICOMDIR, LINK: "links to folders", NAMED_MASK: "files with a mask's name"}
    parts = [f"{n} {kind if n == 1 else plural.get(kind, f'{kind}s')}" for kind, n in sorted(passed.items())]
    return f"passed over: {', '.join(parts)}"


def place_of(path: Path) -> str:
    """A path from the root, its links not followed."""
    return os.path.abspath(path)  # noqa: PTH100  (resolve() would follow links)

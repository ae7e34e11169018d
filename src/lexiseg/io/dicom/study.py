"""The DICOM series of a folder: told apart, named, and chosen."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import UsageError
from lexiseg.io.describe import Description
from lexiseg.io.dicom.headers import DicomHeader, dicom_header
from lexiseg.io.dicom.scan import describe_series, read_series
from lexiseg.io.dicom.series import Series, series_of
from lexiseg.io.names import printable
from lexiseg.io.read import ReadOptions, quiet
from lexiseg.io.sources import Source, SourceOptions
from lexiseg.io.walk import Found
from lexiseg.values.scans import Scan

logger = logging.getLogger(__name__)

_LISTED = 8


@dataclass(frozen=True, eq=False)
class SeriesContent:
    """A DICOM series as what a source is made of."""

    series: Series

    def read(self, options: ReadOptions, place: Path) -> Scan:
        """See `Content.read`."""
        return read_series(self.series, options, source=place)

    def describe(self, options: ReadOptions) -> Description:
        """See `Content.describe`."""
        return describe_series(self.series, options)


@dataclass(frozen=True, eq=False)
class Study:
    """The series of one input.

    Attributes:
        label: the input, for messages.
        series: in the order in which ":N" counts them.
        sources: one for each.
    """

    label: str
    series: tuple[Series, ...]
    sources: tuple[Source, ...]

    @property
    def localizers(self) -> list[Source]:
        """Overviews for planning."""
        pairs = zip(self.series, self.sources, strict=True)
        return [source for series, source in pairs if series.localizer]

    def patients_of(self, sources: Sequence[Source]) -> int:
        """Of how many patients series are; files that do not say count as the same."""
        headers = [s.header for s, source in zip(self.series, self.sources, strict=True) if source in sources]
        return max(1, _different(headers))


def study_of(
    found: Sequence[Found], place: Path, options: SourceOptions, archive: Path | None, keep: object
) -> tuple[Study | None, list[Found]]:
    """The series of DICOM files, and the files of which the header cannot be read.

    Args:
        found: the files.
        place: the input that they lie in.
        options: see `SourceOptions`.
        archive: the zip that they were extracted from, if they were.
        keep: what must live as long as the sources.
    """
    headers: list[DicomHeader] = []
    broken: list[Found] = []
    with warnings.catch_warnings(), quiet("pydicom"):
        warnings.simplefilter("ignore")
        for each in found:
            try:
                headers.append(dicom_header(each.path))
            # pydicom raises anything at all on damaged files; reading them again tells the reason.
            except Exception:
                logger.debug("%s has no header that can be read", each.path.name, exc_info=True)
                broken.append(each)
    series = tuple(series_of(headers))
    if not series:
        return None, broken
    places = {each.path: each.place for each in found}
    named = _names(series, places)
    sources = tuple(
        Source(
            path=each.files[0] if len(each.files) == 1 else _folder(each.files),
            place=name,
            files=(archive,) if archive is not None else each.files,
            content=SeriesContent(each),
            volume=options.volume if each.kind == "volume" else None,
            error=_mixed(each, headers, name),
            keep=keep,
        )
        for each, name in zip(series, named, strict=True)
    )
    return Study(printable(str(place)), series, sources), broken


def _mixed(series: Series, headers: Sequence[DicomHeader], name: Path) -> str:
    """Why a series of several patients is refused."""
    if len(series.files) == 1:
        return ""
    own = set(series.files)
    if _different([header for header in headers if header.path in own]) < 2:
        return ""
    return f"{printable(str(name))}: files of one series name different patients; export it again"


def _different(headers: Sequence[DicomHeader]) -> int:
    """How many different patients headers name: by their ids, or by name and birth date where none has an id."""
    ids = {header.patient[0] for header in headers if header.patient[0]}
    names = {header.patient[1:] for header in headers if any(header.patient[1:])}
    return len(ids or names)


def _folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _names(series: Sequence[Series], places: dict[Path, Path]) -> list[Path]:
    """What each series is called: a file of its own, else its folder, with its number where the folder has several."""
    folders = [None if len(each.files) == 1 else _folder([places[file] for file in each.files]) for each in series]
    shared = Counter(folder for folder in folders if folder is not None)
    numbers = Counter((folder, each.header.series_number) for folder, each in zip(folders, series, strict=True))
    names = []
    for index, (each, folder) in enumerate(zip(series, folders, strict=True), start=1):
        if folder is None:
            names.append(places[each.files[0]])
        elif shared[folder] == 1:
            names.append(folder)
        else:
            number = each.header.series_number
            alone = number is not None and numbers[folder, number] == 1
            names.append(folder / (f"series{number}" if alone else f"series-{index}"))
    return names


def chosen_series(study: Study, options: SourceOptions) -> list[Source]:
    """The series that are read.

    Localizers are left out unless they are chosen, or there is nothing else. Images and films are read all; where there
    is a volume among several series, one must be chosen.

    Raises:
        UsageError: a choice is missing, or meets nothing or more than one; or the series are of several patients.
    """
    if options.series:
        chosen = [source for text in options.series for source in _meant(study, text)]
        chosen = list({id(source): source for source in chosen}.values())
    else:
        localizers = study.localizers
        chosen = [source for source in study.sources if source not in localizers] or list(study.sources)
        kinds = {each.kind for each, source in zip(study.series, study.sources, strict=True) if source in chosen}
        if len(chosen) > 1 and "volume" in kinds and not options.all_series:
            raise UsageError(
                f"{study.label}: it holds {len(chosen)} series; choose with --series N or :PLACE, or --all-series: "
                f"{_list(study, chosen)}; `lexiseg info` describes them"
            )
    patients = study.patients_of(chosen)
    if patients > 1 and not options.all_patients:
        raise UsageError(
            f"{study.label}: its DICOM files are of {patients} patients; expected one: name their folders one by one, "
            "or add --all-patients"
        )
    return chosen


def _list(study: Study, chosen: Sequence[Source]) -> str:
    lines = []
    for index, (each, source) in enumerate(zip(study.series, study.sources, strict=True), start=1):
        if source not in chosen:
            continue
        number = "" if each.header.series_number is None else f" number {each.header.series_number}"
        shape = each.stacks[0].geometry.shape if each.stacks else (each.header.rows, each.header.columns)
        size = " x ".join(map(str, shape))
        lines.append(f":{index}{number} ({' '.join(filter(None, (each.header.modality, each.kind, size)))})")
    more = len(lines) - _LISTED
    return ", ".join(lines[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _meant(study: Study, text: str) -> list[Source]:
    """The series that a choice means: several only of one UID."""
    pairs = list(zip(study.series, study.sources, strict=True))
    text = text.strip()
    if found := [source for each, source in pairs if each.header.series == text]:
        return found
    if text.startswith(":") and text[1:].isdecimal():
        place = int(text[1:])
        if not 1 <= place <= len(pairs):
            raise UsageError(f"{study.label}: there is no series {text}; expected :1 to :{len(pairs)}")
        return [pairs[place - 1][1]]
    if text.isdecimal():
        found = [source for each, source in pairs if each.header.series_number == int(text)]
    else:
        wanted = text.casefold()
        found = [source for each, source in pairs if each.header.description.casefold() == wanted]
        found = found or [source for each, source in pairs if wanted and wanted in each.header.description.casefold()]
    if len(found) == 1:
        return found
    what = "no series" if not found else f"{len(found)} series"
    raise UsageError(
        f"{study.label}: {what} of that number, UID or description; choose one of :1 to :{len(pairs)} with --series; "
        f"there are {_list(study, study.sources)}"
    )

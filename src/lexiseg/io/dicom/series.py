"""DICOM files of a study to the scans that they are: series told apart, volumes, images, films."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.files import Frame
from lexiseg.io.dicom.headers import DicomHeader, FrameRecord
from lexiseg.io.dicom.stacks import Stack, count_places, stacks_of
from lexiseg.values.geometry import Geometry

SeriesKind = Literal["image", "volume", "cine"]

# Directions and sizes that differ by less are one grid: headers are rounded.
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3


@dataclass(frozen=True, eq=False)
class Series:
    """One scan, or several volumes of one place, of a DICOM series.

    Attributes:
        kind: "image" of one picture, "volume", or "cine" of frames without positions.
        header: of its first file.
        files: all of its files, sorted by path.
        stacks: of a volume, one for each of its volumes; of a film one; of an image none.
        mosaic: whether each file holds a volume's slices side by side.
        notes: what was decided on telling it apart.
        error: why it cannot be read, the reason alone; "" for a sound one.
    """

    kind: SeriesKind
    header: DicomHeader
    files: tuple[Path, ...]
    stacks: tuple[Stack, ...] = ()
    mosaic: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def localizer(self) -> bool:
        """Whether it is an overview for planning."""
        return self.header.localizer

    @property
    def volumes(self) -> int:
        """How many volumes there are to choose from."""
        return len(self.files) if self.mosaic else max(1, len(self.stacks))


def series_of(headers: Sequence[DicomHeader]) -> list[Series]:
    """The scans of a study's files, in the order of series numbers and then of paths.

    - Files of one Series Instance UID, one size and one orientation, at two positions or more, are a volume.
    - A file of several frames is a volume where they have positions, and a film where they have none or one.
    - Every other file is an image.

    Localizers beside other images of their series are left out; a series of localizers alone is of images.
    """
    groups: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda each: each.path.parts):
        groups[header.series or f"file {header.path}"].append(header)
    found = [each for group in groups.values() for each in _split(group)]
    return sorted(found, key=lambda each: (_last_if_none(each.header.series_number), each.files[0].parts))


def _last_if_none(number: int | None) -> float:
    return math.inf if number is None else number


def _split(headers: list[DicomHeader]) -> Iterator[Series]:
    """The scans of the files of one series."""
    notes: dict[str, str] = {}
    if localizers := [header for header in headers if header.localizer]:
        rest = [header for header in headers if not header.localizer]
        if rest:
            notes["localizers"] = f"{len(localizers)} left out"
            headers = rest
        else:
            yield from (_image(header) for header in headers)
            return
    several = [header for header in headers if header.count > 1]
    whole: dict[str, list[DicomHeader]] = defaultdict(list)
    for header in several:
        whole[header.concatenation or str(header.path)].append(header)
    for parts in whole.values():
        yield from _of_frames(parts, notes)
    mosaics = [header for header in headers if header.count == 1 and header.mosaic]
    if mosaics:
        yield Series("volume", mosaics[0], _paths(mosaics), mosaic=True, notes=notes)
    yield from _of_slices([header for header in headers if header.count == 1 and not header.mosaic], notes)


def _image(header: DicomHeader, notes: dict[str, str] | None = None) -> Series:
    return Series("image", header, (header.path,), notes=dict(notes or {}))


def _images(headers: Sequence[DicomHeader], notes: dict[str, str], why: str) -> Iterator[Series]:
    """Files that make no volume; a note where a user may have expected one."""
    told = dict(notes)
    if len(headers) > 1 and headers[0].series:
        told["no_volume"] = f"{len(headers)} files of its series {why}, so they make no volume: each is an image"
    yield from (_image(header, told) for header in headers)


def _paths(headers: Sequence[DicomHeader]) -> tuple[Path, ...]:
    return tuple(sorted((header.path for header in headers), key=lambda path: path.parts))


def _of_frames(headers: list[DicomHeader], notes: dict[str, str]) -> Iterator[Series]:
    """The volumes or the film of one object of several frames, which may lie in several files."""
    frames = [frame for header in headers for frame in header.frames]
    counted = sum(header.count for header in headers)
    placed = [frame for frame in frames if frame.position is not None and frame.orientation is not None]
    if len(placed) < counted or _one_place(placed):
        for header in headers:
            yield _film(header, notes)
        return
    yield from _volumes({frame: header for header in headers for frame in header.frames}, notes)


def _one_place(frames: list[FrameRecord]) -> bool:
    first = frames[0].orientation
    same = all(_alike(frame.orientation, first) for frame in frames)
    return same and count_places(frames) == 1


def _film(header: DicomHeader, notes: dict[str, str]) -> Series:
    try:
        # Each frame takes a byte of the file at least, before and after any compression that DICOM has.
        if header.count > os.stat(header.path).st_size:  # noqa: PTH116
            raise UnreadableScan(f"it claims {header.count} frames, more than it has bytes; export it again")
    except UnreadableScan as error:
        return Series("cine", header, (header.path,), notes=dict(notes), error=str(error))
    told = {"spacing": header.pixel_spacing[1]} if header.pixel_spacing[1] else {}
    told["frames"] = "they have no distance from each other"
    frames = tuple(FrameRecord(Frame(header.path, index), None, None, None, index, {}) for index in range(header.count))
    return Series(
        "cine", header, (header.path,), (Stack(frames, _film_geometry(header), notes=told),), notes=dict(notes)
    )


def _film_geometry(header: DicomHeader) -> Geometry:
    """The grid of a film: sizes in its plane where they are known, and no distance from frame to frame."""
    spacing = header.frames[0].spacing
    if spacing is None or not min(spacing) > 0:
        spacing = header.pixel_spacing[0] or (math.nan, math.nan)
    row, column = spacing
    affine = np.diag([-column, -row, 1.0, 1.0])
    return Geometry((header.count, header.rows, header.columns), affine, header.frame_of_reference, time=True)


def _of_slices(headers: list[DicomHeader], notes: dict[str, str]) -> Iterator[Series]:
    """The volumes and images of files of one frame."""
    owners: dict[FrameRecord, DicomHeader] = {}
    loose: list[DicomHeader] = []
    for header in headers:
        frame = header.frames[0]
        if frame.position is None or frame.orientation is None or not header.series:
            loose.append(header)
        else:
            owners[frame] = header
    yield from _images(loose, notes, "say not where they lie")
    if owners:
        yield from _volumes(owners, notes)


def _volumes(owners: dict[FrameRecord, DicomHeader], notes: dict[str, str]) -> Iterator[Series]:
    """Frames with positions, grouped by their grids."""
    groups: list[list[FrameRecord]] = []
    for frame, header in owners.items():
        for group in groups:
            if _same_grid(header, frame, owners[group[0]], group[0]):
                group.append(frame)
                break
        else:
            groups.append([frame])
    told = dict(notes)
    if len(groups) > 1:
        told["grids"] = f"its series has {len(groups)} sizes or orientations; each is a scan of its own"
    for group in groups:
        yield from _volume(group, owners, told)


def _volume(
    frames: list[FrameRecord], owners: dict[FrameRecord, DicomHeader], notes: dict[str, str]
) -> Iterator[Series]:
    headers = list({id(owners[frame]): owners[frame] for frame in frames}.values())
    first = headers[0]
    alone = count_places(frames) == 1
    if alone and first.count == 1:
        yield from _images(headers, notes, "lie at one place")
        return
    try:
        if alone:
            raise UnreadableScan("its frames lie in several planes, one in each; export them as images of their own")
        stacks = stacks_of(frames, rows=first.rows, columns=first.columns, frame_of_reference=first.frame_of_reference)
    except UnreadableScan as error:
        yield Series("volume", first, _paths(headers), notes=dict(notes), error=str(error))
    else:
        yield Series("volume", first, _paths(headers), tuple(stacks), notes=dict(notes))


def _same_grid(header: DicomHeader, frame: FrameRecord, other: DicomHeader, beside: FrameRecord) -> bool:
    sizes = (header.rows, header.columns, header.samples) == (other.rows, other.columns, other.samples)
    if not sizes or not _alike(frame.orientation, beside.orientation):
        return False
    if frame.spacing is None or beside.spacing is None:
        return frame.spacing == beside.spacing
    return bool(np.allclose(frame.spacing, beside.spacing, rtol=_SAME_SPACING, atol=0))


def _alike(one: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= _SAME_DIRECTION

"""Frames to volumes: sorted by position along the normal, gaps and repetitions told; the one sorter of DICOM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.headers import SEPARATORS, FrameRecord
from lexiseg.values.geometry import Geometry

# mm: closer positions are one place.
_SAME_PLACE = 0.01
# Of the step: how far a slice may lie from an even grid, and of a pixel, from a straight stack.
_EVEN = 0.1
# mm, and of the step: positions that were written with one decimal are even too.
_ROUNDED, _ROUNDED_MOST = 0.1, 0.25
# Of a gap: how far it may be from a whole number of steps, to be slices that are missing.
_WHOLE = 0.01
# Of a pixel: slices further from a straight line are no volume.
_STRAIGHT = 0.5
_PERPENDICULAR = 1e-2
_UNIT = 1e-2
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one volume.

    Attributes:
        frames: one for each slice, in the order of the array; None where a slice is missing.
        geometry: where the voxels lie.
        copies: frames at the place of another, with its slice: their pixels must be equal.
        notes: what was decided.
    """

    frames: tuple[FrameRecord | None, ...]
    geometry: Geometry
    copies: tuple[tuple[int, FrameRecord], ...] = ()
    notes: dict[str, str] = field(default_factory=dict)


def stacks_of(frames: Sequence[FrameRecord], *, rows: int, columns: int, frame_of_reference: str) -> list[Stack]:
    """The volumes that placed frames of one orientation are.

    Slices are in the order of their positions along the normal, which is the cross product of the directions in which
    columns and rows are counted.  A set of positions that is there several times is several volumes, told apart by the
    first of `SEPARATORS` that does, else by Instance Number.

    Args:
        frames: each with position, orientation and spacing; of at least two positions.
        rows, columns: of each.
        frame_of_reference: of all.

    Raises:
        UnreadableScan: they are no volume; the reason alone.
    """
    first = frames[0]
    assert first.orientation is not None
    axes = _Axes.of(first.orientation)
    if first.spacing is None or min(first.spacing) <= 0:
        raise UnreadableScan("its Pixel Spacing is missing or no length above 0; export it again")
    mixed = _by_place(frames, axes.normal)
    _refuse_side_by_side(mixed, min(first.spacing))
    sets = _told_apart(mixed)
    stacks = []
    for index, (places, told) in enumerate(sets):
        stack = _stack(places, axes, (rows, columns), frame_of_reference)
        if len(sets) > 1:
            stack.notes["volume"] = f"{index + 1} of {len(sets)}, told apart by {told}"
        stacks.append(stack)
    return stacks


def count_places(frames: Sequence[FrameRecord]) -> int:
    """At how many positions frames lie."""
    assert frames[0].orientation is not None
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    length = float(np.linalg.norm(normal))
    return len(_by_place(frames, normal / length)) if length > 0 else len({frame.position for frame in frames})


Places = list[list[FrameRecord]]


class _Axes(NamedTuple):
    """The directions in which columns and rows are counted, and the normal of both: (3,), LPS."""

    across: NDArray[np.float64]
    down: NDArray[np.float64]
    normal: NDArray[np.float64]

    @classmethod
    def of(cls, orientation: tuple[float, ...]) -> _Axes:
        across, down = np.array(orientation[:3]), np.array(orientation[3:])
        lengths = [float(np.linalg.norm(each)) for each in (across, down)]
        if max(abs(length - 1) for length in lengths) > _UNIT or abs(float(across @ down)) > _PERPENDICULAR:
            raise UnreadableScan(
                "its Image Orientation (Patient) is no pair of perpendicular directions of length 1; export it again"
            )
        normal = np.cross(across, down)
        return cls(across, down, normal / np.linalg.norm(normal))


def _position(frame: FrameRecord) -> NDArray[np.float64]:
    assert frame.position is not None
    return np.array(frame.position, np.float64)


def _by_place(frames: Sequence[FrameRecord], normal: NDArray[np.float64]) -> Places:
    """Frames by position, along the normal."""
    along = [float(_position(frame) @ normal) for frame in frames]
    places: Places = []
    begun = -math.inf
    for index in sorted(range(len(frames)), key=lambda k: (along[k], frames[k].number or 0, str(frames[k].frame.file))):
        if along[index] - begun > _SAME_PLACE:
            places.append([])
            begun = along[index]
        places[-1].append(frames[index])
    return places


def _told_apart(places: Places) -> list[tuple[Places, str]]:
    """The volumes that are mixed in places, each with what told it; all as one where nothing does."""
    times = max(map(len, places))
    if times == 1:
        return [(places, "")]
    for name in SEPARATORS:
        found_at: dict[str, dict[int, list[FrameRecord]]] = {}
        for index, place in enumerate(places):
            for frame in place:
                found_at.setdefault(frame.told.get(name, ""), {}).setdefault(index, []).append(frame)
        groups = {told: list(at.values()) for told, at in found_at.items()}
        fewer = all(max(map(len, group)) < times for group in groups.values())
        # Of a tag that differs from slice to slice, each group has but a few of the places.
        whole = all(2 * len(group) >= len(places) and len(group) > 1 for group in groups.values())
        if len(groups) > 1 and fewer and whole:
            found = [
                (inner, ", ".join(filter(None, (name, told))))
                for _, group in sorted(groups.items(), key=lambda item: _as_number(item[0]))
                for inner, told in _told_apart(group)
            ]
            if all(max(map(len, group)) == 1 for group, _ in found):
                return found
    if all(len(place) == times for place in places):
        numbered = [[frame.number for frame in place] for place in places]
        if all(None not in numbers and len(set(numbers)) == times for numbers in numbered):
            return [([[place[k]] for place in places], "Instance Number") for k in range(times)]
    return [(places, "")]


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _stack(places: Places, axes: _Axes, size: tuple[int, int], frame_of_reference: str) -> Stack:
    notes: dict[str, str] = {}
    kept = [place[0] for place in places]
    spacing = kept[0].spacing
    assert spacing is not None
    positions = np.array([_position(frame) for frame in kept])
    _refuse_crooked(positions, min(spacing), notes)
    along = (positions - positions[0]) @ axes.normal
    indices, distances = _grid(along, notes)
    step = (positions[-1] - positions[0]) / indices[-1]
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = axes.across * spacing[1], axes.down * spacing[0], step
    lps[:3, 3] = positions[0]
    affine = _LPS_TO_RAS @ lps + 0.0
    depth = int(indices[-1]) + 1
    frames: list[FrameRecord | None] = [None] * depth
    for index, frame in zip(indices, kept, strict=True):
        frames[index] = frame
    # Along the stack, which a tilted gantry's slices do not follow at a right angle.
    slant = float(np.linalg.norm(step) / abs(step @ axes.normal))
    uneven = None if distances is None else tuple(float(each) * slant for each in distances)
    copies = [(int(index), frame) for index, place in zip(indices, places, strict=True) for frame in place[1:]]
    if copies:
        notes["duplicates"] = f"{len(copies)} slice{'s' if len(copies) > 1 else ''} at the place of another, left out"
    if slant > 1 + 1e-6:
        degrees = math.degrees(math.acos(min(1.0, 1 / slant)))
        if degrees >= 0.1:
            notes["tilt"] = f"slices are stacked {degrees:.1f} degrees off their normal: the affine is sheared"
    geometry = Geometry((depth, *size), affine, frame_of_reference, uneven)
    return Stack(tuple(frames), geometry, tuple(copies), notes)


def _refuse_side_by_side(places: Places, pixel: float) -> None:
    for place in places:
        for frame in place[1:]:
            if np.linalg.norm(_position(frame) - _position(place[0])) > max(_SAME_PLACE, _EVEN * pixel):
                raise UnreadableScan("slices lie side by side in one plane; expected a stack: choose its files by name")


def _refuse_crooked(positions: NDArray[np.float64], pixel: float, notes: dict[str, str]) -> None:
    line = positions[-1] - positions[0]
    line /= np.linalg.norm(line)
    rest = positions - positions[0]
    off = float(np.linalg.norm(rest - np.outer(rest @ line, line), axis=1).max())
    if off > _STRAIGHT * pixel and off > _SAME_PLACE:
        raise UnreadableScan(f"its slices are not stacked along one line: up to {off:.3g} mm off; export it again")
    if off > _EVEN * pixel and off > _SAME_PLACE:
        notes["line"] = f"slices lie up to {off:.3g} mm beside the line from the first to the last"


def _grid(along: NDArray[np.float64], notes: dict[str, str]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """The slice index of each position, and the positions themselves where they are on no even grid.

    A note says what was decided.
    """
    gaps = np.diff(along)
    # The lower of two in the middle: a missing slice makes a gap longer.
    step = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = np.maximum(np.rint(gaps / step), 1)
    indices = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    mean = along[-1] / indices[-1]
    off = float(np.abs(along - indices * mean).max())
    whole = np.abs(gaps - steps * step) <= _WHOLE * gaps
    missing = int(indices[-1]) + 1 - len(along)
    even = max(_EVEN * mean, min(_ROUNDED, _ROUNDED_MOST * mean))
    if off <= even and (missing == 0 or (whole[steps > 1].all() and missing <= len(along))):
        if missing:
            places = ", ".join(str(k + 1) for k in sorted(set(range(int(indices[-1]) + 1)) - set(indices.tolist()))[:5])
            more = ", ..." if missing > 5 else ""
            words = f"{missing} slice{'s' if missing > 1 else ''} missing, left empty"
            notes["missing"] = f"{words} (place {places}{more} of {int(indices[-1]) + 1})"
        if off > _WHOLE * mean:
            notes["spacing"] = f"slices lie up to {off:.2g} mm off an even distance of {mean:.4g} mm"
        return indices, None
    notes["spacing"] = (
        f"uneven: slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, each is kept at its own place"
    )
    return np.arange(len(along)), along

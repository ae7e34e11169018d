"""Masks out of DICOM SEG: binary, fractional and label maps, put on the grid of the scan that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.mask_grids import SAME_PLACE
from lexiseg.io.names import is_dicom
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, quiet, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""

_LPS = np.array([-1.0, -1.0, 1.0])
_SAID = 12


@dataclass(frozen=True, eq=False)
class SegFrame:
    """One frame of one segment.

    Attributes:
        mask: bool (H, W).
        origin: the centre of its first pixel, RAS mm; None where the object has no place.
        steps: float64 (2, 3): mm to the next row, and to the next column; None likewise.
        source: the frame of the source that it is of, from 1; None in a source of one frame.
    """

    mask: BoolArray
    origin: NDArray[np.float64] | None = None
    steps: NDArray[np.float64] | None = None
    source: int | None = None


@dataclass(frozen=True, eq=False)
class SegMasks:
    """A SEG's segments.

    Attributes:
        path: the file.
        segments: the frames of each segment, by its number; those that are empty may be left out.
        labels: the segments' own names, by number.
        frame_of_reference: its UID; "" without one.
        notes: what was decided on reading.
    """

    path: Path
    segments: Mapping[int, tuple[SegFrame, ...]]
    labels: Mapping[int, str]
    frame_of_reference: str = ""
    notes: tuple[str, ...] = ()

    def numbers(self, labels: Sequence[int] = (), text: str | None = None) -> tuple[int, ...]:
        """The segments that are meant: those with these numbers, else the one of this name, else the only one.

        Raises:
            UnreadableScan: there is none, or several and none was chosen; one line that begins with the file's name.
        """
        with reading(self.path):
            known = sorted(self.labels)
            listed = ", ".join(map(str, known[:_SAID])) + (", ..." if len(known) > _SAID else "")
            if labels:
                missing = [number for number in labels if number not in self.labels]
                if len(missing) == len(labels):
                    raise UnreadableScan(f"it has no segment {labels[0]}; expected one of {listed}")
                return tuple(number for number in labels if number in self.labels)
            named = [number for number in known if text is not None and _same(self.labels[number], text)]
            if len(named) == 1:
                return (named[0],)
            if len(known) == 1:
                return (known[0],)
            raise UnreadableScan(f"it holds segments {listed}; choose the target's with --label NUMBER")

    def has(self, text: str) -> bool:
        """Whether a segment has this name, whatever its case and blanks."""
        return any(_same(label, text) for label in self.labels.values())

    def onto(self, numbers: Sequence[int], shape: tuple[int, ...], geometry: Geometry | None) -> BoolArray:
        """The union of segments on a scan's grid, each pixel where it lies in the patient; nothing is interpolated.

        Args:
            numbers: of the segments.
            shape: of the scan, (H, W) or (D, H, W).
            geometry: of a volume; None of an image.

        Raises:
            UnreadableScan: a frame lies elsewhere, between the grid's voxels or beyond it, or in another frame of
                reference; one line that begins with the file's name.
        """
        with reading(self.path):
            frames = [frame for number in numbers for frame in self.segments.get(number, ())]
            if geometry is None:
                return _onto_image(frames, shape)
            if geometry.frame and self.frame_of_reference and geometry.frame != self.frame_of_reference:
                raise UnreadableScan("its frame of reference is another than its scan's; expected the same")
            mask = np.zeros(shape, np.bool_)
            for frame in frames:
                if geometry.time:
                    _put_in_time(frame, mask)
                elif frame.mask.any():
                    _put(frame, mask, geometry)
            return mask


def is_seg(path: str | Path) -> bool:
    """Whether a file is a DICOM SEG, by its class; False where it cannot be read."""
    import pydicom

    try:
        if not is_dicom(regular_head(Path(path))):
            return False
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return str(header.get("SOPClassUID", "")) in SEG_CLASSES
    # The parser raises anything at all on damage, which whoever reads the file will tell.
    except Exception:  # noqa: BLE001
        return False


def read_seg(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS) -> SegMasks:
    """Read a DICOM SEG.

    A fractional one is cut at half of its Maximum Fractional Value. Of a label map each value is a segment.

    Args:
        path: the file.
        max_pixels: the most pixels of a frame.
        max_voxels: the most pixels of all frames.

    Raises:
        UnreadableScan: it is damaged, too large, or lacks what places its frames; one line that begins with the
            file's name.
    """
    import highdicom

    path = Path(path)
    with reading(path), quiet("highdicom"):
        regular_head(path)
        seg: Any = highdicom.seg.segread(path)
        frames = int(seg.NumberOfFrames)
        if seg.Rows * seg.Columns > max_pixels or seg.Rows * seg.Columns * frames > max_voxels:
            raise UnreadableScan(
                f"its size is {seg.Columns} x {seg.Rows} x {frames} pixels, over the limit of {max_voxels}"
            )
        labels = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in seg.SegmentSequence}
        # Background has a segment of its own in label maps.
        labels.pop(0, None)
        segments: dict[int, list[SegFrame]] = {number: [] for number in labels}
        notes: tuple[str, ...] = ()
        top = 1
        if seg.SegmentationType == "FRACTIONAL":
            top = int(seg.MaximumFractionalValue)
            notes = (f"fractional of 0 to {top}: at least half of it is inside",)
        for index, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
            pixels = np.asarray(seg.get_stored_frame(index + 1))
            place = _place(seg, group)
            if seg.SegmentationType == "LABELMAP":
                held = {number: pixels == number for number in labels if (pixels == number).any()}
            else:
                held = {_number_of(seg, group): pixels.astype(np.int64) * 2 >= top}
            for number, mask in held.items():
                segments.setdefault(number, []).append(SegFrame(np.ascontiguousarray(mask), *place))
    return SegMasks(
        path,
        {number: tuple(found) for number, found in segments.items()},
        labels,
        str(seg.get("FrameOfReferenceUID") or ""),
        notes,
    )


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def _number_of(seg: Any, group: Any) -> int:
    for holder in (group, seg.SharedFunctionalGroupsSequence[0]):
        if "SegmentIdentificationSequence" in holder:
            return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    raise UnreadableScan("a frame does not say which segment it is of; export it again")


def _place(seg: Any, group: Any) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, int | None]:
    """Origin, steps and source frame of a frame."""

    def macro(sequence: str, keyword: str) -> Any:
        for holder in (group, seg.SharedFunctionalGroupsSequence[0]):
            items = holder.get(sequence)
            if items and items[0].get(keyword) is not None:
                return items[0].get(keyword)
        return None

    number = None
    for derivation in group.get("DerivationImageSequence") or ():
        for source in derivation.get("SourceImageSequence") or ():
            value = source.get("ReferencedFrameNumber")
            if value is not None:
                number = int(value if isinstance(value, int | float | str) else value[0])
    position = macro("PlanePositionSequence", "ImagePositionPatient")
    orientation = macro("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = macro("PixelMeasuresSequence", "PixelSpacing")
    if position is None or orientation is None or spacing is None:
        return None, None, number
    origin, turn = np.array(position, np.float64), np.array(orientation, np.float64)
    apart = np.array(spacing, np.float64)
    steps = np.stack([turn[3:] * apart[0], turn[:3] * apart[1]]) * _LPS
    if not np.isfinite(origin).all() or not np.isfinite(steps).all():
        raise UnreadableScan("a frame's place is no number; export it again")
    return origin * _LPS, steps, number


def _onto_image(frames: Sequence[SegFrame], shape: tuple[int, ...]) -> BoolArray:
    mask = np.zeros(shape, np.bool_)
    places = {None if frame.origin is None else tuple(frame.origin) for frame in frames}
    if len(places) > 1 or len({frame.source for frame in frames}) > 1:
        raise UnreadableScan("its frames are of several slices, and its scan is one image; expected one frame")
    for frame in frames:
        if frame.mask.shape != shape:
            raise UnreadableScan(f"its frames are of {frame.mask.shape}, its scan of {shape}; expected the same")
        mask |= frame.mask
    return mask


def _put_in_time(frame: SegFrame, mask: BoolArray) -> None:
    number = frame.source or 0
    if not 1 <= number <= len(mask):
        raise UnreadableScan(f"a frame is of frame {number} of its source, which has {len(mask)}")
    if frame.mask.shape != mask.shape[1:]:
        raise UnreadableScan(f"its frames are of {frame.mask.shape}, its scan's of {mask.shape[1:]}; expected the same")
    mask[number - 1] |= frame.mask


def _put(frame: SegFrame, mask: BoolArray, geometry: Geometry) -> None:
    """Set the voxels that a frame's pixels are: its axes run along two of the grid's, its pixels lie on voxels."""
    if frame.origin is None or frame.steps is None:
        raise UnreadableScan("its frames do not say where they lie; expected their positions in the patient")
    if not geometry.oriented:
        raise UnreadableScan("its scan does not say where its voxels lie; expected a scan with an affine")
    back = np.linalg.inv(geometry.affine)
    # Voxel coordinates count column, row, slice.
    first = back[:3, :3] @ frame.origin + back[:3, 3]
    along = frame.steps @ back[:3, :3].T
    if geometry.positions is not None:
        first[2] = _nearest(first[2] * float(np.linalg.norm(geometry.affine[:3, 2])), geometry.positions)
    units, start = np.rint(along), np.rint(first)
    reach = np.array(frame.mask.shape) - 1
    drift = np.abs(first - start).max() + (np.abs(along - units) * reach[:, None]).sum(axis=0).max()
    one_axis = (np.abs(units).sum(axis=1) == 1).all() and (np.abs(units).sum(axis=0) <= 1).all()
    if geometry.positions is not None and units[:, 2].any():
        one_axis = False
    if not one_axis or not drift <= SAME_PLACE:
        raise UnreadableScan(
            f"a frame's pixels lie up to {drift:.2g} of a voxel beside its scan's; expected the same grid: it is not "
            "resampled"
        )
    rows, columns = np.nonzero(frame.mask)
    index = (start + rows[:, None] * units[0] + columns[:, None] * units[1]).astype(int)
    beyond = ((index < 0) | (index >= mask.shape[::-1])).any(axis=1)
    if beyond.any():
        raise UnreadableScan(f"{int(beyond.sum())} of its pixels lie beyond its scan; expected the same grid")
    mask[index[:, 2], index[:, 1], index[:, 0]] = True


def _nearest(place: float, positions: Sequence[float]) -> float:
    """The slice at a place in mm, as a whole number; a fraction off it where no slice is as near as it must be."""
    distances = np.abs(np.asarray(positions) - place)
    index = int(np.argmin(distances))
    gaps = np.diff(np.asarray(positions))
    return index + float(distances[index] / gaps.min() if len(gaps) else distances[index])

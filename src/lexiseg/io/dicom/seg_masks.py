"""Masks out of DICOM SEG: binary, fractional and label maps, put on the grid of the scan that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.placed import PlacedMasks, refuse_other_frame, slices_at
from lexiseg.io.mask_grids import SAME_PLACE
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, quiet, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry

_LPS = np.array([-1.0, -1.0, 1.0])


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


@dataclass(frozen=True, eq=False, kw_only=True)
class SegMasks(PlacedMasks):
    """A SEG's segments.

    Attributes:
        segments: the frames of each segment, by its number; those that are empty may be left out.
        frame_of_reference: its UID; "" without one.
    """

    WHAT = "DICOM SEG"
    PART = "segment"

    segments: Mapping[int, tuple[SegFrame, ...]]
    frame_of_reference: str = ""

    def _onto(self, numbers: Sequence[int], shape: tuple[int, ...], geometry: Geometry | None) -> BoolArray:
        frames = [frame for number in numbers for frame in self.segments.get(number, ())]
        if geometry is None or len(shape) == 2:
            return _onto_image(frames, shape)
        refuse_other_frame(self.frame_of_reference, geometry)
        mask = np.zeros(shape, np.bool_)
        for frame in frames:
            if geometry.time:
                _put_in_time(frame, mask)
            elif frame.mask.any():
                _put(frame, mask, geometry)
        return mask


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
    referenced = {str(item.get("SeriesInstanceUID") or "") for item in seg.get("ReferencedSeriesSequence") or ()}
    return SegMasks(
        path=path,
        labels=labels,
        series=referenced.pop() if len(referenced) == 1 else "",
        notes=notes,
        segments={number: tuple(found) for number, found in segments.items()},
        frame_of_reference=str(seg.get("FrameOfReferenceUID") or ""),
    )


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
        first[2] = slices_at(first[2:], geometry)[0]
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

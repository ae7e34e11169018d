"""Masks out of DICOM RT structure sets: contours filled on the grid of the scan that they were drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.files import read_dataset
from lexiseg.io.dicom.placed import PlacedMasks, refuse_other_frame, slices_at
from lexiseg.io.mask_grids import SAME_PLACE
from lexiseg.io.read import MAX_VOXELS, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# Of a sequence whose end is marked.
_UNDEFINED = 0xFFFFFFFF
_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Region:
    """A region of interest.

    Attributes:
        contours: of each the corners, float64 (N, 3), RAS mm.
        frame_of_reference: the UID of the frame that they lie in; "" where the file names none.
        others: the kinds of contours that enclose nothing, such as POINT.
    """

    contours: tuple[NDArray[np.float64], ...]
    frame_of_reference: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class StructureMasks(PlacedMasks):
    """The regions of a structure set.

    A voxel is inside a region where its centre is enclosed by an odd number of the region's contours in its slice. So
    a contour within another is a hole, and a keyhole joins a hole to its outline. A centre on a contour is inside on
    the sides of low rows and columns, and outside on the others, so that areas that share a border share no voxel.

    Attributes:
        regions: by number.
    """

    WHAT = "structure set"
    PART = "region"

    regions: Mapping[int, Region]

    def _onto(self, numbers: Sequence[int], shape: tuple[int, ...], geometry: Geometry | None) -> BoolArray:
        if geometry is None or geometry.time or not geometry.oriented:
            raise UnreadableScan(
                "it is a structure set, and its scan does not say where its slices lie; expected the series that it "
                "was drawn on"
            )
        mask = np.zeros(geometry.shape, np.bool_)
        for number in numbers:
            region = self.regions[number]
            if region.others:
                raise UnreadableScan(
                    f"its region {number} has contours that enclose nothing ({', '.join(region.others)}); expected "
                    "closed planar ones"
                )
            refuse_other_frame(region.frame_of_reference, geometry)
            mask |= _filled(region.contours, geometry)
        return mask.reshape(shape)


def read_structures(path: str | Path, *, max_voxels: int = MAX_VOXELS) -> StructureMasks:
    """Read a structure set.

    Args:
        path: the file.
        max_voxels: the file may take no more bytes than so many voxels would.

    Raises:
        UnreadableScan: it is damaged or too large, or a contour is no list of points; one line that begins with the
            file's name.
    """
    path = Path(path)
    with reading(path):
        regular_head(path)
        dataset: Any = read_dataset(path, max_voxels)
        _refuse_cut_off(dataset)
        items = {int(item.ROINumber): item for item in dataset.get("StructureSetROISequence") or ()}
        if not items or "ROIContourSequence" not in dataset:
            raise UnreadableScan("it is a structure set without regions or without contours; export it again")
        drawn: dict[int, list[Any]] = {number: [] for number in items}
        for held in dataset.get("ROIContourSequence") or ():
            drawn.setdefault(int(held.ReferencedROINumber), []).extend(held.get("ContourSequence") or ())
        frames = {number: str(item.get("ReferencedFrameOfReferenceUID") or "") for number, item in items.items()}
        return StructureMasks(
            path=path,
            labels={number: str(item.get("ROIName") or "") for number, item in items.items()},
            series=_series_of(dataset),
            regions={number: _region(drawn[number], frames[number]) for number in items},
        )


def _refuse_cut_off(dataset: Any) -> None:
    """Raise where the file ends within an element: pydicom takes what there is of the last one."""
    from pydicom.dataelem import RawDataElement

    # A dataset's own iterator parses its elements.
    for tag in dataset.keys():  # noqa: SIM118
        item = dataset.get_item(tag)
        if isinstance(item, RawDataElement) and item.value is not None and len(item.value) < item.length < _UNDEFINED:
            raise UnreadableScan("it is truncated; copy or export it again")


def _series_of(dataset: Any) -> str:
    found = {
        str(series.get("SeriesInstanceUID") or "")
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    }
    return found.pop() if len(found) == 1 else ""


def _region(contours: Sequence[Any], frame_of_reference: str) -> Region:
    kinds = [str(contour.get("ContourGeometricType") or "") for contour in contours]
    closed = [_points(contour) for contour, kind in zip(contours, kinds, strict=True) if kind in _CLOSED]
    others = sorted({kind or "of no kind" for kind in kinds if kind not in _CLOSED})
    return Region(tuple(closed), frame_of_reference, tuple(others))


def _points(contour: Any) -> NDArray[np.float64]:
    numbers = np.array([float(value) for value in contour.get("ContourData") or ()])
    claimed = contour.get("NumberOfContourPoints")
    if numbers.size % 3 or (claimed is not None and 3 * int(claimed) != numbers.size):
        raise UnreadableScan("a contour of it holds another number of points than it says; export it again")
    if not np.isfinite(numbers).all():
        raise UnreadableScan("a contour of it has a corner that is no number; export it again")
    points: NDArray[np.float64] = numbers.reshape(-1, 3) * _LPS
    return points


def _filled(contours: Sequence[NDArray[np.float64]], geometry: Geometry) -> BoolArray:
    """bool (D, H, W): the voxels whose centres lie within an odd number of a region's contours, slice by slice."""
    mask = np.zeros(geometry.shape, np.bool_)
    contours = [points for points in contours if len(points) > 2]
    if not contours:
        return mask
    back = np.linalg.inv(geometry.affine)
    # Voxel coordinates count column, row, slice; here in the order of the array's axes.
    placed = [(points @ back[:3, :3].T + back[:3, 3])[:, ::-1] for points in contours]
    if geometry.positions is not None:
        for points in placed:
            points[:, 0] = slices_at(points[:, 0], geometry)
    # A grid that is stored turned has the contours' planes along another of its axes.
    axis = int(np.argmin(np.max([np.ptp(points, axis=0) for points in placed], axis=0)))
    toggled = np.moveaxis(mask, axis, 0)
    for points in placed:
        plane = np.rint(points[:, axis].mean())
        off = float(np.abs(points[:, axis] - plane).max())
        if off > SAME_PLACE:
            raise UnreadableScan(
                f"a contour lies up to {off:.2g} of a slice beside its scan's slices; expected the series that it was "
                "drawn on: nothing is interpolated"
            )
        inside = np.delete(points, axis, axis=1)
        beyond = max(-float(inside.min()), float((inside - toggled.shape[1:]).max()) + 1)
        if not 0 <= plane < len(toggled) or beyond > 0.5 + SAME_PLACE:
            raise UnreadableScan("a contour lies beyond its scan; expected the series that it was drawn on")
        _toggle(toggled[int(plane)], inside)
    np.logical_xor.accumulate(toggled, axis=-1, out=toggled)
    return mask


def _toggle(plane: BoolArray, corners: NDArray[np.float64]) -> None:
    """Turn over, in each row, the first pixel at or after each place where a closed polygon crosses its centre line.

    The running exclusive or along a row is then the polygon's inside (the even-odd rule).

    Args:
        plane: bool (H, W), changed.
        corners: float64 (N, 2), row and column.
    """
    following = np.roll(corners, -1, axis=0)
    upwards = corners[:, 0] > following[:, 0]
    # Each edge in one direction, so that it is crossed at one place whichever way round it is run.
    low = np.where(upwards[:, None], following, corners)
    high = np.where(upwards[:, None], corners, following)
    first = np.clip(np.ceil(low[:, 0]), 0, len(plane)).astype(np.int64)
    counts = np.clip(np.ceil(high[:, 0]), 0, len(plane)).astype(np.int64) - first
    edge = np.repeat(np.arange(len(corners)), counts)
    rows = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = (rows - low[edge, 0]) / (high[edge, 0] - low[edge, 0])
    columns = np.ceil(low[edge, 1] + share * (high[edge, 1] - low[edge, 1]))
    within = columns < plane.shape[1]
    np.logical_xor.at(plane, (rows[within], np.maximum(columns[within], 0).astype(np.int64)), True)

"""Masks in DICOM objects that say where they lie, and are put on the grid of the scan that they are of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom.files import DicomInstances, is_bare, read_header
from lexiseg.io.names import is_dicom
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, reading, regular_head
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""

_SAID = 12


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacedMasks(ABC):
    """The targets of a DICOM object: a SEG's segments, or the regions of interest of a structure set.

    Attributes:
        path: the file.
        labels: the targets' own names, by number.
        series: the Series Instance UID of the images that it refers to; "" where it names none, or several.
        notes: what was decided on reading.
    """

    WHAT: ClassVar[str]
    """What the object is called."""
    PART: ClassVar[str]
    """What a target is called in it."""

    path: Path
    labels: Mapping[int, str]
    series: str = ""
    notes: tuple[str, ...] = ()

    def numbers(self, labels: Sequence[int] = (), text: str | None = None) -> tuple[int, ...]:
        """The targets that are meant: those with these numbers, else the one of this name, else the only one.

        Raises:
            UnreadableScan: there is none, or several and none was chosen; one line that begins with the file's name.
        """
        with reading(self.path):
            known = sorted(self.labels)
            listed = ", ".join(map(str, known[:_SAID])) + (", ..." if len(known) > _SAID else "")
            if labels:
                missing = [number for number in labels if number not in self.labels]
                if len(missing) == len(labels):
                    raise UnreadableScan(f"it has no {self.PART} {labels[0]}; expected one of {listed}")
                return tuple(number for number in labels if number in self.labels)
            named = [number for number in known if text is not None and _same(self.labels[number], text)]
            if len(named) == 1:
                return (named[0],)
            if len(known) == 1:
                return (known[0],)
            raise UnreadableScan(f"it holds {self.PART}s {listed}; choose the target's with --label NUMBER")

    def has(self, text: str) -> bool:
        """Whether a target has this name, whatever its case and blanks."""
        return any(_same(label, text) for label in self.labels.values())

    def onto(
        self, numbers: Sequence[int], shape: tuple[int, ...], geometry: Geometry | None, *, series: str = ""
    ) -> BoolArray:
        """The union of targets on a scan's grid, each pixel where it lies in the patient; nothing is interpolated.

        Args:
            numbers: of the targets.
            shape: of the scan, (H, W) or (D, H, W).
            geometry: see `grid_of`.
            series: the scan's Series Instance UID; "" where nobody knows. What refers to it lies in its frame of
                reference, whatever UID it gives that: some programs make one up.

        Raises:
            UnreadableScan: it lies elsewhere, between the grid's voxels or beyond it, or in another frame of
                reference; one line that begins with the file's name.
        """
        with reading(self.path):
            if geometry is not None and series and series == self.series:
                geometry = replace(geometry, frame="")
            return self._onto(numbers, shape, geometry)

    @abstractmethod
    def _onto(self, numbers: Sequence[int], shape: tuple[int, ...], geometry: Geometry | None) -> BoolArray:
        """`onto`, whose errors give the reason alone."""


def grid_of(scan: Scan) -> Geometry | None:
    """Where a scan's pixels lie: a volume's geometry, or one slice of an image that its DICOM file places.

    None of any other image.
    """
    if isinstance(scan, Volume):
        return scan.geometry
    if not isinstance(scan.header, DicomInstances):
        return None
    # Here, because reading headers takes pydicom and few images are asked.
    from lexiseg.io.dicom.headers import dicom_header

    header = dicom_header(scan.header.files[0])
    frame = header.frames[0]
    if frame.position is None or frame.orientation is None or frame.spacing is None:
        return None
    across, down = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = across * frame.spacing[1], down * frame.spacing[0], np.cross(across, down)
    lps[:3, 3] = frame.position
    return Geometry((1, *scan.shape), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps + 0.0, header.frame_of_reference)


def series_uid(scan: Scan) -> str:
    """The Series Instance UID of a scan's files; "" of a scan that is no DICOM."""
    if not isinstance(scan.header, DicomInstances):
        return ""
    return str(next(scan.header.headers()).get("SeriesInstanceUID") or "")


def refuse_other_frame(own: str, geometry: Geometry) -> None:
    """Raise where an object and its scan name different frames of reference; the reason alone."""
    if geometry.frame and own and geometry.frame != own:
        raise UnreadableScan("its frame of reference is another than its scan's; expected the same")


def slices_at(places: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Places along an uneven stack, in mean steps, as slices: whole numbers where a slice lies.

    Elsewhere the nearest slice, and a fraction of the smallest gap that it is off.
    """
    positions = np.asarray(geometry.positions)
    mm = places * float(np.linalg.norm(geometry.affine[:3, 2]))
    distances = np.abs(mm[:, None] - positions)
    nearest = np.argmin(distances, axis=1)
    gaps = np.diff(positions)
    found: NDArray[np.float64] = nearest + distances.min(axis=1) / (gaps.min() if len(gaps) else 1.0)
    return found


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()


def is_placed(path: str | Path) -> bool:
    """Whether a file is a DICOM SEG or a structure set, by its class; False where it cannot be read."""
    return _class_of(path) in (*SEG_CLASSES, STRUCTURE_SET)


def read_placed(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_voxels: int = MAX_VOXELS) -> PlacedMasks:
    """Read a DICOM SEG or a structure set.

    Args:
        path: the file.
        max_pixels: the most pixels of a frame.
        max_voxels: the most voxels; the file may take no more bytes than they would.

    Raises:
        UnreadableScan: it is damaged, too large, or lacks what places it; one line that begins with the file's name.
    """
    # Here, because they import this module.
    if _class_of(path) == STRUCTURE_SET:
        from lexiseg.io.dicom.structures import read_structures

        return read_structures(path, max_voxels=max_voxels)
    from lexiseg.io.dicom.seg_masks import read_seg

    return read_seg(path, max_pixels=max_pixels, max_voxels=max_voxels)


def _class_of(path: str | Path) -> str:
    try:
        head = regular_head(Path(path))
        if not is_dicom(head) and not is_bare(head):
            return ""
        return str(read_header(Path(path), ["SOPClassUID"]).get("SOPClassUID", ""))
    # The parser raises anything at all on damage, which whoever reads the file will tell.
    except Exception:  # noqa: BLE001
        return ""

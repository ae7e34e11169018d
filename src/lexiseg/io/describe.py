"""What can be said of a scan without its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from lexiseg.values.geometry import Geometry

Kind = Literal["image", "volume", "cine", "not-an-image"]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A scan by its header.

    Attributes:
        kind: "image", "volume", "cine" (frames that follow each other in time, or whose places nobody knows), or
            "not-an-image" (a DICOM object without a picture, or what cannot be read).
        path: the file, or a series' folder.
        series_uid: of DICOM; "" for other formats.
        modality: of DICOM, such as "CT"; "" for other formats.
        files: how many files it lies in.
        shape: (slices, rows, columns); None where the header does not say.
        spacing_mm: along slice, row and column; None for each that is not known.
        affine: (4, 4) rows, voxel (column, row, slice) to RAS+ mm; None for images, films and where it is not known.
        plane: "axial", "coronal" or "sagittal", in which it is cut without --axis; "frames" of a film; "" for none.
        status: "ok", or "refused" where segmenting it as it is would fail.
        notes: what is decided on reading: no patient data.
        error: why it is refused, on one line; "" otherwise.
        number: of the series; None where there is none.
        text: the series' description, which is for people at a terminal and in no file.
        place: among an input's series, as `--series` takes it: ":1"; "" where there is none to choose.
    """

    kind: Kind
    path: str = ""
    series_uid: str = ""
    modality: str = ""
    files: int = 1
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    affine: tuple[tuple[float, ...], ...] | None = None
    plane: str = ""
    status: Literal["ok", "refused"] = "ok"
    notes: tuple[str, ...] = ()
    error: str = ""
    number: int | None = None
    text: str = ""
    place: str = ""

    def refused(self, error: str) -> Self:
        """The same, with why it cannot be segmented as it is."""
        return replace(self, status="refused", error=error)

    def with_geometry(self, geometry: Geometry, notes: tuple[str, ...] = ()) -> Self:
        """The same, with where its voxels lie."""
        slice_ = geometry.spacing[0] if geometry.spacing is not None else None
        row, column = geometry.pixel_spacing or (None, None)
        known = not geometry.time and geometry.oriented
        return replace(
            self,
            shape=geometry.shape,
            spacing_mm=(slice_, row, column),
            affine=tuple(tuple(float(each) for each in line) for line in geometry.affine) if known else None,
            plane=geometry.plane_axes().name,
            notes=(*self.notes, *notes),
        )

    def with_image(self, orientation: tuple[float, ...] | None, spacing: tuple[float, float] | None) -> Self:
        """The same, with the directions in which an image's columns and rows are counted (LPS), where it has any."""
        row, column = spacing or (None, None)
        return replace(self, spacing_mm=(None, row, column), plane=_plane_of(orientation) if orientation else "")

    def as_dict(self) -> dict[str, Any]:
        """For programs: everything but what is for people alone: number, text and place."""
        return {
            "kind": self.kind,
            "path": self.path,
            "series_uid": self.series_uid,
            "modality": self.modality,
            "files": self.files,
            "shape": None if self.shape is None else list(self.shape),
            "spacing_mm": list(self.spacing_mm),
            "affine": None if self.affine is None else [list(line) for line in self.affine],
            "plane": self.plane,
            "status": self.status,
            "notes": list(self.notes),
            "error": self.error,
        }


def _plane_of(orientation: tuple[float, ...]) -> str:
    """The plane of one slice, by the directions of its columns and rows."""
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across, down, np.cross(across, down)], axis=1)
    geometry = Geometry((1, 2, 2), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    return geometry.plane_axes().name if geometry.oriented else ""

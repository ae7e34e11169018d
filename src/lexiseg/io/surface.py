"""The surface of a mask as STL, for printing and for programs that show meshes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lexiseg.io.dicom.sources import slice_origins
from lexiseg.io.segments import Segments, WriteOptions
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume

_LPS = np.array([-1.0, -1.0, 1.0])
_HEADER = b"lexiseg surface; mm, left-posterior-superior (LPS)".ljust(80, b" ")
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("extra", "<u2")])


class StlWriter:
    """Binary STL in mm, in LPS as DICOM, 3D Slicer and ITK count; the frame is named in the file's header.

    The surface runs half-way between voxels inside and outside, without smoothing. Triangles face outwards. Places
    are float32, which in a body is exact to 0.0001 mm.
    """

    suffix = ".stl"

    def why_not(self, scan: Scan) -> str:
        """See `Writer.why_not`."""
        if not isinstance(scan, Volume):
            return "it is an image"
        return "" if scan.geometry.oriented else "nobody knows how far apart its slices are"

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """See `Writer.files`; nothing of a target that was not found."""
        assert isinstance(segments.scan, Volume)
        geometry = segments.scan.geometry
        missing = [item.name for item in segments.items if not item.mask.any()]
        if missing:
            notes["stl"] = f"no surface of what was not found: {', '.join(missing)}"
        if segments.several:
            for item in segments.found:
                yield f"mask_{item.slug}", stl_bytes(item.mask, geometry)
        if segments.found:
            yield "mask", stl_bytes(segments.labels > 0, geometry)


def stl_bytes(mask: BoolArray, geometry: Geometry) -> bytes:
    """The surface of a mask (D, H, W) that is not empty; equal masks give equal bytes."""
    corners = surface_of(mask, geometry).astype(np.float32)
    triangles = np.zeros(len(corners), _TRIANGLE)
    triangles["corners"] = corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    triangles["normal"] = normals / np.where(lengths > 0, lengths, 1)
    return _HEADER + len(triangles).to_bytes(4, "little") + triangles.tobytes()


def surface_of(mask: BoolArray, geometry: Geometry) -> NDArray[np.float64]:
    """Triangles (N, 3, 3) around a mask (D, H, W) that is not empty: three corners each, x y z in mm LPS.

    Seen from outside, the corners run counter-clockwise.
    """
    from skimage.measure import marching_cubes

    start = [int(np.flatnonzero(mask.any(axis=others))[0]) for others in ((1, 2), (0, 2), (0, 1))]
    end = [int(np.flatnonzero(mask.any(axis=others))[-1]) + 1 for others in ((1, 2), (0, 2), (0, 1))]
    part = np.pad(mask[tuple(slice(*edges) for edges in zip(start, end, strict=True))], 1)
    vertices, faces, _, _ = marching_cubes(part.astype(np.float32), 0.5, allow_degenerate=False)
    index = vertices.astype(np.float64) + start - 1
    places = _at(index, geometry)
    triangles: NDArray[np.float64] = places[faces]
    # The signed volume tells which way the triangles face, whatever the axes' hand.
    middle = triangles - places.mean(axis=0)
    if np.einsum("ij,ij->i", middle[:, 0], np.cross(middle[:, 1], middle[:, 2])).sum() < 0:
        triangles = triangles[:, ::-1]
    return triangles


def _at(index: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Slice, row and column, also between voxels and a step beyond them, as mm in LPS."""
    origins = slice_origins(geometry)
    steps = geometry.affine[:3, :3].T * _LPS
    if len(origins) == 1:
        origins = np.stack([origins[0], origins[0] + steps[2]])
    # Beyond the ends, the outer step goes on.
    low = np.clip(np.floor(index[:, 0]), 0, len(origins) - 2).astype(int)
    part = (index[:, 0] - low)[:, None]
    along = origins[low] + part * (origins[low + 1] - origins[low])
    found: NDArray[np.float64] = along + index[:, 1:2] * steps[1] + index[:, 2:3] * steps[0]
    return found

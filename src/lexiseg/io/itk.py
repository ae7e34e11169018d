"""NRRD and MetaImage: where their voxels lie from the header, to the last digit; no voxel of a damaged file.

SimpleITK reads NRRD. It does not look at the checksum of compressed voxels, so that is done here first. Of a damaged
MetaImage it returns what its memory held before, and prints lines of its own that nothing silences: such a file is raw
or deflated numbers, which numpy and zlib read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.deflated import check_deflated, inflated
from lexiseg.io.describe import Description
from lexiseg.io.grid_headers import GridHeader, meta_header, nrrd_header
from lexiseg.io.intensities import volume_values
from lexiseg.io.read import ReadOptions, chosen_volume
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume
from lexiseg.values.window import ValueRange, refuse_flat_values


class _GridReader(ABC):
    """What both formats share."""

    name: str
    _header: Callable[[Path], GridHeader]

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """See `Reader.read`."""
        header = type(self)._header(path)
        which = self._choose(header, options)
        values = self._values(path, header)
        notes = {"format": self.name, **header.notes}
        window = None
        if header.colour:
            refuse_flat_values(values)
            window = ValueRange(0, 255, "as displayed")
        else:
            if header.values > 1:
                values = np.ascontiguousarray(values[..., which])
                notes["volume"] = f"{which + 1} of {header.values}"
            values = volume_values(values, notes, count_unknown=True)
        return Volume(values, _geometry(header), id=options.id, window=window, source=path, notes=notes)

    def voxels(self, path: Path, max_voxels: int) -> tuple[NDArray[Any], Geometry, dict[str, str]]:
        """The voxels (D, H, W) as they are stored, be they all equal, where they lie, and notes: for masks.

        Raises:
            UnreadableScan: it is damaged or too large, or holds colours or several volumes; the reason alone.
        """
        header = type(self)._header(path)
        self._choose(header, ReadOptions(id="", max_pixels=0, max_voxels=max_voxels))
        if header.colour or header.values > 1:
            raise UnreadableScan(f"it holds {header.values} numbers a voxel; expected one")
        return self._values(path, header), _geometry(header), dict(header.notes)

    def describe(self, path: Path, options: ReadOptions) -> Description:
        """See `Reader.describe`."""
        header = type(self)._header(path)
        files = 1 if header.data == path else 2
        notes = tuple(f"{name}: {text}" for name, text in header.notes.items())
        about = Description(kind="volume", files=files).with_geometry(_geometry(header), notes)
        try:
            self._choose(header, options)
        except UnreadableScan as error:
            return about.refused(str(error))
        return about

    def _choose(self, header: GridHeader, options: ReadOptions) -> int:
        """Which of its volumes, from 0, once its size is known to be sound."""
        voxels = int(np.prod(header.sizes, dtype=object)) * (header.values if header.colour else 1)
        if voxels > options.max_voxels:
            raise UnreadableScan(
                f"its header claims {' x '.join(map(str, header.sizes))} voxels, over the limit of "
                f"{options.max_voxels}; crop it, or in Python read_scan(..., max_voxels=N)"
            )
        if header.data.stat().st_size < header.least:
            raise UnreadableScan(f"it is truncated: its header claims {header.least} bytes; copy or export it again")
        return chosen_volume(1 if header.colour else header.values, options.volume)

    @abstractmethod
    def _values(self, path: Path, header: GridHeader) -> NDArray[Any]:
        """(D, H, W), or (D, H, W, n) of several numbers a voxel."""


class NrrdReader(_GridReader):
    """Reads NRRD in its own units, on its own voxels; sheared grids too.

    The affine is made of the header's space directions and origin, exactly. A header that names no space counts as
    LPS, as ITK takes it, with a note. Of several volumes one must be chosen. Data in another file must lie beside it.
    """

    name = "NRRD"
    _header = staticmethod(nrrd_header)

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for NRRD's signature."""
        return head.startswith(b"NRRD000")

    def _values(self, path: Path, header: GridHeader) -> NDArray[Any]:
        if header.packed and header.begin >= 0:
            check_deflated(header.data, header.begin, header.size)
        # Here, because importing SimpleITK takes 0.5 s and few files are its.
        import SimpleITK as sitk  # noqa: N813

        # Its warnings quote headers.
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        image = sitk.ReadImage(str(path), imageIO="NrrdImageIO")
        values = np.asarray(sitk.GetArrayFromImage(image))
        width, height, depth = header.sizes
        if image.GetNumberOfComponentsPerPixel() == 1 and header.values > 1:
            # Volumes along a fourth axis, the slowest.
            values = np.moveaxis(values, 0, -1)
        shape = (depth, height, width) if header.values == 1 else (depth, height, width, header.values)
        if values.size != int(np.prod(shape)) or values.dtype.kind not in "iuf":
            raise UnreadableScan("its voxels are not those that its header describes; export it again")
        return values.reshape(shape)


class MetaReader(_GridReader):
    """Reads MetaImage (.mha, .mhd) as `NrrdReader` reads NRRD."""

    name = "MetaImage"
    _header = staticmethod(meta_header)

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for a text header that begins as MetaImage's do."""
        start = head[:64].lstrip()
        return start.startswith((b"ObjectType", b"NDims", b"Comment")) and b"NDims" in head and b"DimSize" in head

    def _values(self, path: Path, header: GridHeader) -> NDArray[Any]:
        assert header.stored is not None
        width, height, depth = header.sizes
        if header.packed:
            values = np.frombuffer(inflated(header.data, header.begin, header.size), header.stored)
        else:
            begin = header.begin if header.begin >= 0 else header.data.stat().st_size - header.size
            values = np.fromfile(header.data, header.stored, header.size // header.stored.itemsize, offset=begin)
        values = values.astype(header.stored.newbyteorder("="), copy=False)
        if header.values == 1:
            return values.reshape(depth, height, width)
        if header.fourth:
            # Volumes along a fourth axis, the slowest.
            return np.moveaxis(values.reshape(header.values, depth, height, width), 0, -1)
        return values.reshape(depth, height, width, header.values)


def _geometry(header: GridHeader) -> Geometry:
    width, height, depth = header.sizes
    return Geometry((depth, height, width), header.affine, placed=header.placed)

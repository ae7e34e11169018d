"""Writers of arrays on the scan's own grid: PNG, NIfTI and NRRD."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lexiseg.io.nifti import nifti_bytes
from lexiseg.io.segments import Segments, WriteOptions
from lexiseg.values.scans import Image, Scan, Volume

# From RAS+, in which affines are here, to LPS+, in which NRRD and DICOM count; and back.
_LPS = np.array([-1.0, -1.0, 1.0])


class PngWriter:
    """8-bit grey PNG of an image's size; a mask holds 0 and 255, a label map its labels."""

    suffix = ".png"

    def why_not(self, scan: Scan) -> str:
        """See `Writer.why_not`."""
        return "" if isinstance(scan, Image) else "it is a volume"

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """See `Writer.files`; "labels" where there are several targets."""
        if segments.several:
            for item in segments.items:
                yield f"mask_{item.slug}", self.mask(_white(item.mask), segments.scan)
            yield "labels", self.mask(segments.labels, segments.scan)
        yield "mask", self.mask(_white(segments.labels > 0), segments.scan)

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `GridWriter.mask`."""
        return _png(labels)

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """See `GridWriter.map`; 0 to 255."""
        return _png(np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8))


class _VolumeWriter:
    """What is common to formats of one affine: each target's own mask, then the label map of all."""

    def why_not(self, scan: Scan) -> str:
        """See `Writer.why_not`."""
        if not isinstance(scan, Volume):
            return "it is an image"
        if scan.geometry.time:
            return "its frames follow each other in time"
        return "" if scan.geometry.regular else "its slices have unequal distances"

    def files(self, segments: Segments, options: WriteOptions, notes: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """See `Writer.files`."""
        if segments.several:
            for item in segments.items:
                yield f"mask_{item.slug}", self.mask(item.mask.astype(np.uint8), segments.scan)
        yield "mask", self.mask(segments.labels, segments.scan)

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `GridWriter.mask`."""
        raise NotImplementedError


class NiftiWriter(_VolumeWriter):
    """NIfTI on the volume's own voxels: uint8 masks and regions, float32 maps."""

    suffix = ".nii.gz"

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `GridWriter.mask`."""
        assert isinstance(scan, Volume)
        return nifti_bytes(labels, scan)

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """See `GridWriter.map`."""
        assert isinstance(scan, Volume)
        return nifti_bytes(values.astype(np.uint8 if values.dtype == np.bool_ else np.float32), scan)


class NrrdWriter(_VolumeWriter):
    """NRRD on the volume's own voxels, in left-posterior-superior mm, every number to its last bit."""

    suffix = ".nrrd"

    def mask(self, labels: NDArray[np.uint8], scan: Scan) -> bytes:
        """See `GridWriter.mask`."""
        assert isinstance(scan, Volume)
        return nrrd_bytes(labels, scan)

    def map(self, values: NDArray[Any], scan: Scan) -> bytes:
        """See `GridWriter.map`."""
        assert isinstance(scan, Volume)
        return nrrd_bytes(values.astype(np.uint8 if values.dtype == np.bool_ else np.float32), scan)


def nrrd_bytes(array: NDArray[Any], volume: Volume) -> bytes:
    """An array (D, H, W) as a gzipped NRRD file on the volume's voxels; equal arrays give equal bytes.

    The file's axes are column, row and slice. Directions and origin are the volume's affine in LPS, in 17 digits, so
    that the affine that is read is equal to the bit.
    """
    # Here, because few runs write it.
    import nrrd

    affine = volume.geometry.affine
    header = {
        "space": "left-posterior-superior",
        # A row for each axis of the array. Adding 0 makes -0 a plain 0.
        "space directions": affine[:3, :3].T * _LPS + 0.0,
        "space origin": affine[:3, 3] * _LPS + 0.0,
        "kinds": ["domain", "domain", "domain"],
        "encoding": "gzip",
    }
    file = io.BytesIO()
    nrrd.write(file, np.ascontiguousarray(array).T, header, compression_level=6)
    return _without_comments(file.getvalue())


def _without_comments(content: bytes) -> bytes:
    """The library writes the time into a comment: equal masks would be different files."""
    end = content.index(b"\n\n")
    lines = [line for line in content[:end].split(b"\n") if not line.startswith(b"#")]
    return b"\n".join(lines) + content[end:]


def _white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, np.uint8(255), np.uint8(0))


def _png(grey: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(grey).save(file, format="PNG", optimize=False)
    return file.getvalue()

"""NIfTI-1 and NIfTI-2 volumes through nibabel, plain or gzipped."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.formats import HEAD_BYTES
from lexiseg.io.intensities import robust_range, to_unit
from lexiseg.io.nifti_grid import NiftiGrid, nifti_grid
from lexiseg.io.reader import ReadOptions
from lexiseg.values.scan import Scan

_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 544
# Deflate cannot shrink anything further than this (zlib's technical details).
_BEST_RATIO = 1032
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


class NiftiReader:
    """Reads a volume of one frame into upright slices (D, H, W).

    How it is cut is said by `nifti_grid`. The affine and the header are kept in `Scan.grid` (a NiftiGrid), so
    that `write_mask` puts a mask on the file's own voxels. scl_slope and scl_inter are applied; then the 0.5
    and 99.5 percentiles of the whole volume's finite voxels become 0 and 1, and NaN becomes 0. `spacing` is
    in mm, (slice, row, column), whatever the header's unit. A two-dimensional file is a volume of one slice.

    Refused, with the reason: more than one frame, colour and complex voxels, and .hdr/.img pairs.
    """

    name = "NIfTI"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for NIfTI's signature and for every gzip file, to say what is wrong with it if it is none."""
        return head.startswith(_GZIP) or _signature(head) != ""

    def read(self, path: Path, options: ReadOptions) -> Scan:
        """See `Reader.read`."""
        with open_volume(path, options.max_voxels) as image:
            shape = tuple(int(length) for length in image.shape)
            grid = nifti_grid(shape, image.affine, image.header.copy(), volume_axis=options.volume_axis)
            voxels = voxels_of(image)
        low, high = robust_range(voxels)
        notes = {
            "format": self.name,
            "slices": grid.plane,
            "intensity": f"percentiles 0.5 to 99.5: {low:g} to {high:g}",
        }
        unknown = int(np.count_nonzero(~np.isfinite(voxels)))
        if unknown:
            notes["not_finite"] = f"{unknown} voxels; NaN became 0"
        return Scan(
            pixels=to_unit(grid.to_slices(voxels), low, high),
            id=options.id,
            volume=True,
            spacing=grid_spacing(grid),
            source=path,
            grid=grid,
            notes=notes,
        )


@contextlib.contextmanager
def open_volume(path: Path, max_voxels: int) -> Iterator[Any]:
    """Open a NIfTI file as nibabel's image, its voxels not yet read, once its header is known to be sound.

    Raises:
        UnreadableScan: no NIfTI, not one grey volume, too large, or truncated; the reason alone.
    """
    with contextlib.ExitStack() as stack:
        handle: IO[bytes] = stack.enter_context(path.open("rb"))
        zipped = handle.read(2) == _GZIP
        handle.seek(0)
        if zipped:
            handle = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=handle)))
        stack.enter_context(_quiet())
        image = _open(handle, _signature(_inflated(path)))
        most_bytes = path.stat().st_size * (_BEST_RATIO if zipped else 1)
        _refuse_unfit(image.header, most_bytes, max_voxels)
        yield image


def voxels_of(image: Any) -> NDArray[Any]:
    """A nibabel image's scaled voxels, float32 where that holds them exactly, float64 otherwise."""
    stored = image.header.get_data_dtype()
    enough = np.float32 if stored.itemsize <= 2 or stored == np.float32 else np.float64
    return np.asarray(image.dataobj, dtype=enough)


def _inflated(path: Path) -> bytes:
    """The first bytes of the file, unzipped where it is gzipped."""
    with path.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    return zlib.decompressobj(31).decompress(head, _HEADER_BYTES) if head.startswith(_GZIP) else head


def _signature(head: bytes) -> str:
    """ "1", "2" or "pair" by the magic of NIfTI-1 (byte 344) and NIfTI-2 (byte 4); "" for anything else."""
    if head[344:348] == b"n+1\0":
        return "1"
    if head[4:8] == b"n+2\0":
        return "2"
    return "pair" if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0" else ""


def _open(handle: IO[bytes], signature: str) -> Any:
    # Here, because importing nibabel takes 0.5 s and most runs read no NIfTI.
    import nibabel as nib

    if signature == "":
        raise UnreadableScan("it is a gzip file that holds no NIfTI volume; expected .nii.gz")
    if signature == "pair":
        raise UnreadableScan("it is one half of a .hdr/.img pair; save it as .nii or .nii.gz")
    kind = nib.Nifti1Image if signature == "1" else nib.Nifti2Image
    return kind.from_stream(cast(io.IOBase, handle))


def _refuse_unfit(header: Any, most_bytes: int, max_voxels: int) -> None:
    """Pass headers of one grey volume that the file can hold."""
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableScan(f"its shape is {shape}; expected two or three axes of at least one voxel")
    voxels = 1
    for length in shape:
        voxels *= length
    if voxels > max_voxels:
        raise UnreadableScan(
            f"its header claims {' x '.join(map(str, shape))} voxels, over the limit of "
            f"{max_voxels}; crop it or raise max_voxels"
        )
    if max(shape[3:], default=1) > 1:
        raise UnreadableScan(f"its shape is {shape}, a series of volumes; expected one: split it along the fourth axis")
    kind = header.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        raise UnreadableScan("its voxels are colour or complex; expected one real number each")
    needed = int(header.get_data_offset()) + voxels * kind.itemsize
    if needed > most_bytes:
        raise UnreadableScan(f"it is truncated: its header claims {needed} bytes; copy or export it again")


def grid_spacing(grid: NiftiGrid) -> tuple[float, ...] | None:
    """mm between voxel centres along slice, row and column; None where the affine does not say."""
    unit = _MM_PER_UNIT.get(grid.header.get_xyzt_units()[0], 1.0)
    sizes = np.linalg.norm(grid.affine[:3, :3], axis=0) * unit
    if not np.isfinite(sizes).all() or sizes.min() <= 0:
        return None
    return tuple(float(sizes[axis]) for axis in grid.axes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel from printing on headers that it repairs."""
    logger = logging.getLogger("nibabel.global")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before

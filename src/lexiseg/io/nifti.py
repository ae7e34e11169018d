"""NIfTI-1 and NIfTI-2 volumes through nibabel, plain or gzipped."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.dicom_instances import DicomInstances
from lexiseg.io.names import HEAD_BYTES
from lexiseg.io.nifti_affine import affine_of, is_regular
from lexiseg.io.read import CappedFile, ReadOptions, quiet
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume
from lexiseg.values.sentinels import without_sentinels
from lexiseg.values.window import refuse_flat_values

_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 544
# Deflate cannot shrink anything further than this (zlib's technical details).
_BEST_RATIO = 1032
# What was decided on opening, on its way to the volume.
_NOTES = "lexiseg_notes"
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a mask on the file's own voxels must repeat.

    Attributes:
        shape: the file's shape, with all its trailing axes of one.
        header: nibabel's header, as read.
    """

    shape: tuple[int, ...]
    header: Any


class NiftiReader:
    """Reads a volume of one frame in its own units, on the voxels of the file.

    scl_slope and scl_inter are applied, and sentinels become NaN (`without_sentinels`); nothing else is done to the
    values. Where the voxels lie is decided by `affine_of`, in mm, whatever the header's unit. A two-dimensional file
    is a volume of one slice.

    Refused, with the reason: more than one frame, colour and complex voxels, and .hdr/.img pairs.
    """

    name = "NIfTI"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for NIfTI's signature and for every gzip file, to say what is wrong with it if it is none."""
        return head.startswith(_GZIP) or _signature(head) != ""

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """See `Reader.read`."""
        with open_volume(path, options.max_voxels) as image:
            return volume_of(image, options.id, source=path)


def volume_of(image: Any, id: str, *, source: Path | None = None) -> Volume:
    """A nibabel image as a volume.

    Raises:
        UnreadableScan: it is not one grey volume, no voxel is finite, or all are equal; the reason alone.
    """
    _refuse_kind(image.header)
    values, geometry, header = read_voxels(image)
    notes = {"format": NiftiReader.name, **_placed(image)[1], **image.extra.get(_NOTES, {})}
    unknown = int(np.count_nonzero(~np.isfinite(values)))
    if unknown:
        notes["not_finite"] = f"{unknown} voxels; NaN is shown black"
    values, sentinel = without_sentinels(values)
    if sentinel:
        notes["sentinel"] = sentinel
    refuse_flat_values(values)
    return Volume(values=values, geometry=geometry, id=id, source=source, header=header, notes=notes)


def read_voxels(image: Any) -> tuple[NDArray[Any], Geometry, NiftiHeader | None]:
    """A nibabel image's scaled voxels (D, H, W): float32 where that holds them exactly, float64 otherwise.

    Returns:
        A view whose axes are the file's third, second and first, where they lie, and what a writer repeats.
    """
    stored = image.header.get_data_dtype()
    enough = np.float32 if stored.itemsize <= 2 or stored == np.float32 else np.float64
    shape = tuple(int(length) for length in image.shape)
    width, height, depth = (*shape, 1, 1, 1)[:3]
    voxels = np.asarray(image.dataobj, dtype=enough).reshape(width, height, depth, order="A")
    return voxels.T, Geometry((depth, height, width), _placed(image)[0]), _repeated(shape, image.header)


def _placed(image: Any) -> tuple[NDArray[np.float64], dict[str, str]]:
    """The affine in mm: of an image that a program holds its own where it is regular, else the header's."""
    header = image.header
    affine = image.affine
    notes: dict[str, str] = {}
    if affine is None or not is_regular(np.asarray(affine, np.float64)):
        if "sform_code" not in header:
            raise UnreadableScan("its affine is singular or not finite; expected a regular (4, 4)")
        width, height, depth = (*(int(length) for length in image.shape), 1, 1, 1)[:3]
        affine, notes = affine_of(header, (width, height, depth))
    affine = np.asarray(affine, np.float64)
    scale = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0) if "xyzt_units" in header else 1.0
    if scale != 1.0:
        affine = np.diag([scale, scale, scale, 1.0]) @ affine
    return affine, notes


def _repeated(shape: tuple[int, ...], header: Any) -> NiftiHeader | None:
    """What a writer repeats; None of nibabel's other formats."""
    import nibabel as nib

    return NiftiHeader(shape, header.copy()) if isinstance(header, nib.Nifti1Header) else None


def nifti_bytes(array: NDArray[Any], volume: Volume) -> bytes:
    """An array (D, H, W) as a NIfTI file on the volume's voxels, gzipped; equal arrays give equal bytes.

    Shape, affine, sform and qform codes, units and byte order are the source's. Scaling, display range, free
    text and extensions (which may name a patient) are left out. Of any other source, the affine is the sform, in mm;
    where that came from DICOM its code is 1, and the qform says the same if the axes are at right angles. NIfTI stores
    affines in single precision: for places within 1 m that moves no voxel by more than 0.0001 mm.
    """
    import nibabel as nib

    if isinstance(volume.header, NiftiHeader):
        header = volume.header.header.copy()
        header.extensions.clear()
        header.set_data_dtype(array.dtype)
        for text in ("data_type", "db_name", "descrip", "aux_file", "intent_name"):
            if text in header:
                header[text] = b""
        for number in ("intent_code", "intent_p1", "intent_p2", "intent_p3", "cal_min", "cal_max"):
            header[number] = 0
        try:
            header.get_qform()
        except ValueError:
            # A quaternion that rounding made longer than one, with which no program would read the file.
            header.set_qform(volume.geometry.affine, int(header["qform_code"]))
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        voxels = np.ascontiguousarray(array.T.reshape(volume.header.shape))
        # affine=None leaves the header's sform and qform as they are; any other value may be rounded into them.
        image = kind(voxels, None, header)
    else:
        image = nib.Nifti1Image(array.T, volume.geometry.affine)
        image.header.set_xyzt_units("mm")
        if isinstance(volume.header, DicomInstances):
            image.set_sform(volume.geometry.affine, 1)
            if _square(volume.geometry.affine):
                image.set_qform(volume.geometry.affine, 1)
    zipped = io.BytesIO()
    # No name and no time in the gzip header: equal masks are equal files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=zipped, compresslevel=6, mtime=0) as file:
        file.write(image.to_bytes())
    return zipped.getvalue()


def _square(affine: NDArray[np.float64]) -> bool:
    """Whether the axes are at right angles, to single precision: a qform cannot hold others."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-6)


@contextlib.contextmanager
def open_volume(path: Path, max_voxels: int) -> Iterator[Any]:
    """Open a NIfTI file as nibabel's image, its voxels not yet read, once its header is known to be sound.

    Raises:
        UnreadableScan: no NIfTI, not one grey volume, too large, or truncated; the reason alone.
    """
    with contextlib.ExitStack() as stack:
        handle: IO[bytes] = stack.enter_context(CappedFile(path))
        zipped = handle.read(2) == _GZIP
        handle.seek(0)
        if zipped:
            handle = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=handle)))
        stack.enter_context(quiet("nibabel.global"))
        image = _open(handle, _signature(_inflated(path)))
        most_bytes = path.stat().st_size * (_BEST_RATIO if zipped else 1)
        _refuse_unfit(image.header, most_bytes, max_voxels)
        yield image


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
    from nibabel.spatialimages import HeaderDataError

    if signature == "":
        raise UnreadableScan("it is a gzip file that holds no NIfTI volume; expected .nii.gz")
    if signature == "pair":
        raise UnreadableScan("it is one half of a .hdr/.img pair; save it as .nii or .nii.gz")
    kind = nib.Nifti1Image if signature == "1" else nib.Nifti2Image
    try:
        header = kind.header_class.from_fileobj(handle)
    except HeaderDataError as error:
        raise UnreadableScan(
            "its header holds a type, a size or an extension that NIfTI does not know; export it again"
        ) from error
    scaled, notes = header.copy(), {}
    if not np.isfinite(scaled["scl_inter"]):
        scaled["scl_inter"] = 0
        notes["intercept"] = "scl_inter is no number: 0"
    # Without an affine: nibabel would refuse forms that `affine_of` passes over.
    return kind(nib.arrayproxy.ArrayProxy(handle, scaled), None, header, extra={_NOTES: notes})


def _refuse_unfit(header: Any, most_bytes: int, max_voxels: int) -> None:
    """Pass headers of one grey volume that the file can hold."""
    shape = tuple(int(length) for length in header.get_data_shape())
    voxels = 1
    for length in shape:
        voxels *= length
    if voxels > max_voxels:
        raise UnreadableScan(
            f"its header claims {' x '.join(map(str, shape))} voxels, over the limit of "
            f"{max_voxels}; crop it or raise max_voxels"
        )
    _refuse_kind(header)
    needed = int(header.get_data_offset()) + voxels * header.get_data_dtype().itemsize
    if needed > most_bytes:
        raise UnreadableScan(f"it is truncated: its header claims {needed} bytes; copy or export it again")


def _refuse_kind(header: Any) -> None:
    """Pass headers of one grey volume."""
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableScan(f"its shape is {shape}; expected two or three axes of at least one voxel")
    if max(shape[3:], default=1) > 1:
        raise UnreadableScan(f"its shape is {shape}, a series of volumes; expected one: split it along the fourth axis")
    kind = header.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        raise UnreadableScan("its voxels are colour or complex; expected one real number each")

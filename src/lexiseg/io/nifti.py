"""NIfTI-1 and NIfTI-2 volumes through nibabel, plain or gzipped."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.dicom.files import DicomInstances
from lexiseg.io.intensities import volume_values
from lexiseg.io.names import HEAD_BYTES
from lexiseg.io.nifti_affine import UNKNOWN, affine_of, is_regular
from lexiseg.io.read import CappedFile, ReadOptions, chosen_volume, quiet
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 544
# Deflate cannot shrink anything further than this (zlib's technical details).
_BEST_RATIO = 1032
# What was decided on opening, on its way to the volume.
_NOTES = "lexiseg_notes"
# The size of the header of Analyze, and of NIfTI-1.
_ANALYZE = 348
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
    is a volume of one slice. Of a series of volumes, one must be chosen. A pair is named by its .hdr or its .img.

    Refused, with the reason: colour and complex voxels, and Analyze, which does not say which side is left.
    """

    name = "NIfTI"

    def can_read(self, head: bytes, path: Path) -> bool:
        """True for NIfTI's signature and for every gzip file, to say what is wrong with it if it is none."""
        if head.startswith(_GZIP) or _signature(head) != "":
            return True
        if path.suffix.lower() == ".hdr":
            return int.from_bytes(head[:4], "little") == _ANALYZE or int.from_bytes(head[:4], "big") == _ANALYZE
        return _header_of(path) is not None

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """See `Reader.read`."""
        with open_volume(path, options.max_voxels, several=True) as image:
            return volume_of(image, options.id, source=path, volume=options.volume)

    def describe(self, path: Path, options: ReadOptions) -> Description:
        """See `Reader.describe`."""
        with open_volume(path, options.max_voxels, several=True) as image:
            return _described(image, options.volume)


def _described(image: Any, volume: int | None) -> Description:
    shape = tuple(int(length) for length in image.shape)
    width, height, depth = (*shape, 1, 1, 1)[:3]
    affine, notes = _placed(image)
    told = tuple(f"{name}: {text}" for name, text in {**notes, **image.extra.get(_NOTES, {})}.items())
    about = Description(kind="volume").with_geometry(_geometry((depth, height, width), affine, notes), told)
    try:
        chosen_volume(_volumes(shape), volume)
    except UnreadableScan as error:
        return about.refused(str(error))
    return about


def volume_of(image: Any, id: str, *, source: Path | None = None, volume: int | None = None) -> Volume:
    """A nibabel image as a volume.

    Args:
        image: of nibabel.
        id: the scan's.
        source: the file that it was read from.
        volume: which of several, from 1; None where there is one.

    Raises:
        UnreadableScan: it is not grey, no volume of several is chosen, no voxel is finite, or all are equal; the
            reason alone.
    """
    _refuse_kind(image.header, several=True)
    count = _volumes(tuple(int(length) for length in image.shape))
    which = chosen_volume(count, volume)
    values, geometry, header = read_voxels(image, which)
    notes = {"format": NiftiReader.name, **_placed(image)[1], **image.extra.get(_NOTES, {})}
    if count > 1:
        notes["volume"] = f"{which + 1} of {count}"
    values = volume_values(values, notes, count_unknown=True)
    return Volume(values=values, geometry=geometry, id=id, source=source, header=header, notes=notes)


def _volumes(shape: tuple[int, ...]) -> int:
    """How many volumes an image of this shape holds."""
    return int(np.prod(shape[3:], dtype=np.int64)) if len(shape) > 3 else 1


def read_voxels(image: Any, which: int = 0) -> tuple[NDArray[Any], Geometry, NiftiHeader | None]:
    """A nibabel image's scaled voxels (D, H, W): float32 where that holds them exactly, float64 otherwise.

    Args:
        image: of nibabel.
        which: of its volumes, from 0.

    Returns:
        A view whose axes are the file's third, second and first, where they lie, and what a writer repeats.
    """
    stored = image.header.get_data_dtype()
    enough = np.float32 if stored.itemsize <= 2 or stored == np.float32 else np.float64
    shape = tuple(int(length) for length in image.shape)
    width, height, depth = (*shape, 1, 1, 1)[:3]
    if _volumes(shape) > 1:
        place = np.unravel_index(which, shape[3:], order="F")
        voxels = np.asarray(image.dataobj[(slice(None), slice(None), slice(None), *map(int, place))], dtype=enough)
        shape = shape[:3]
    else:
        voxels = np.asarray(image.dataobj, dtype=enough).reshape(width, height, depth, order="A")
    return voxels.T, _geometry((depth, height, width), *_placed(image)), _repeated(shape, image.header)


def _geometry(shape: tuple[int, int, int], affine: NDArray[np.float64], notes: Mapping[str, str]) -> Geometry:
    return Geometry(shape, affine, placed=notes.get("affine") != UNKNOWN)


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
    elif "sform_code" in header and int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        # nibabel's own, of the voxel sizes alone.
        notes = {"affine": UNKNOWN}
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
def open_volume(path: Path, max_voxels: int, *, several: bool = False) -> Iterator[Any]:
    """Open a NIfTI file as nibabel's image, its voxels not yet read, once its header is known to be sound.

    Args:
        path: the file; of a pair either half.
        max_voxels: the most voxels of a volume.
        several: whether it may hold a series of volumes.

    Raises:
        UnreadableScan: no NIfTI, not grey, too large, or truncated; the reason alone.
    """
    path = _header_of(path) or path
    with contextlib.ExitStack() as stack:
        handle: IO[bytes] = stack.enter_context(CappedFile(path))
        zipped = handle.read(2) == _GZIP
        handle.seek(0)
        if zipped:
            handle = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=handle)))
        stack.enter_context(quiet("nibabel.global"))
        signature = _signature(_inflated(path))
        voxels, held = handle, path
        if signature == "pair" and not zipped:
            held = other_half(path) or _no_half(path)
            voxels = stack.enter_context(CappedFile(held))
        image = _open(handle, voxels, signature, path)
        most_bytes = held.stat().st_size * (_BEST_RATIO if zipped else 1)
        _refuse_unfit(image.header, most_bytes, max_voxels, several=several)
        yield image


def other_half(path: Path) -> Path | None:
    """The .img of a .hdr, or the .hdr of an .img, beside it; None where there is none."""
    ends = {".hdr": (".img", ".IMG"), ".img": (".hdr", ".HDR")}.get(path.suffix.lower(), ())
    return next((path.with_suffix(end) for end in ends if path.with_suffix(end).is_file()), None)


def _no_half(path: Path) -> Path:
    raise UnreadableScan(f"it is the header of a pair, and {path.with_suffix('.img').name} is not beside it")


def _header_of(path: Path) -> Path | None:
    """The .hdr of an .img that is named, where it is NIfTI's."""
    half = other_half(path) if path.suffix.lower() == ".img" else None
    if half is None:
        return None
    with half.open("rb") as handle:
        return half if _signature(handle.read(_HEADER_BYTES)) == "pair" else None


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


def _open(handle: IO[bytes], voxels: IO[bytes], signature: str, path: Path) -> Any:
    # Here, because importing nibabel takes 0.5 s and most runs read no NIfTI.
    import nibabel as nib
    from nibabel.spatialimages import HeaderDataError

    if signature == "" and path.suffix.lower() == ".hdr":
        raise UnreadableScan("it is Analyze, which does not say which side is left; convert it to NIfTI")
    if signature == "":
        raise UnreadableScan("it is a gzip file that holds no NIfTI volume; expected .nii.gz")
    if signature == "pair" and voxels is handle:
        raise UnreadableScan("it is one half of a .hdr.gz/.img.gz pair; save it as .nii.gz")
    kind = {"1": nib.Nifti1Image, "2": nib.Nifti2Image}.get(signature, nib.Nifti1Pair)
    if signature == "pair" and _inflated(path)[4:8] == b"ni2\0":
        kind = nib.Nifti2Pair
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
    return kind(nib.arrayproxy.ArrayProxy(voxels, scaled), None, header, extra={_NOTES: notes})


def _refuse_unfit(header: Any, most_bytes: int, max_voxels: int, *, several: bool) -> None:
    """Pass headers of grey volumes that the file can hold."""
    shape = tuple(int(length) for length in header.get_data_shape())
    voxels = 1
    for length in shape:
        voxels *= length
    if voxels > max_voxels * (max(1, _volumes(shape)) if several else 1):
        raise UnreadableScan(
            f"its header claims {' x '.join(map(str, shape))} voxels, over the limit of "
            f"{max_voxels}; crop it, or in Python read_scan(..., max_voxels=N)"
        )
    _refuse_kind(header, several=several)
    needed = int(header.get_data_offset()) + voxels * header.get_data_dtype().itemsize
    if needed > most_bytes:
        raise UnreadableScan(f"it is truncated: its header claims {needed} bytes; copy or export it again")


def _refuse_kind(header: Any, *, several: bool = False) -> None:
    """Pass headers of one grey volume, or of several."""
    shape = tuple(int(length) for length in header.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise UnreadableScan(f"its shape is {shape}; expected two or three axes of at least one voxel")
    if max(shape[3:], default=1) > 1 and not several:
        raise UnreadableScan(f"its shape is {shape}, a series of volumes; expected one: split it along the fourth axis")
    kind = header.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        raise UnreadableScan("its voxels are colour or complex; expected one real number each")

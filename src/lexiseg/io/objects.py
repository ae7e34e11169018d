"""Scans out of what Python programs hold: arrays, and other libraries' objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UsageError
from lexiseg.io.intensities import grey_if_equal, refuse_flat, stretch
from lexiseg.io.read import MAX_PIXELS, MAX_VOXELS, ReadOptions, read_scan, reading
from lexiseg.values.arrays import FloatArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume
from lexiseg.values.sentinels import without_sentinels


def as_scan(
    scan: Any,
    *,
    id: str | None = None,
    spacing: tuple[float, ...] | None = None,
    affine: NDArray[np.floating] | None = None,
) -> Scan:
    """A scan from whatever a caller has.

    - a path of a file, or of a folder or zip that holds one scan: see `read_scan`;
    - an `Image` or `Volume`: itself;
    - a NumPy array: (H, W) or (H, W, 3) is an image, any other (D, H, W) a volume. One of 3 or 4 slices needs spacing
      or affine, since it may be colours that come first; so does (H, W, 1) or (H, 1, W), which may be a grey picture
      with an axis too many. An image's uint8 is divided by 255, its uint16 stretched between its 0.5 and 99.5
      percentiles as that of a file is, and its floats lie in [0, 1] already. A volume's numbers are in units of its
      own; without an affine it counts as axial slices from feet to head, and a note says that nobody knows;
    - an image of Pillow, nibabel or pydicom.

    Args:
        scan: see above.
        id: the scan's id; of the file or "scan" when None.
        spacing: mm along the array's axes, for arrays; (row, column), or (slice, row, column) of a volume.
        affine: (4, 4), voxel (column, row, slice) to RAS+ mm, for arrays of a volume.

    Raises:
        UsageError: another kind of object, shape or number, or both spacing and affine.
        UnreadableScan: a file or object that cannot be read, or an image of one colour.

    Example:
        >>> import numpy as np
        >>> as_scan(np.eye(2, 3, dtype=np.uint8)).shape
        (2, 3)
    """
    if spacing is not None and affine is not None:
        raise UsageError("both spacing and affine are given; expected one of them")
    if isinstance(scan, str | Path):
        _refuse_placing(spacing, affine, "a file")
        return read_scan(scan, id=id)
    if isinstance(scan, Image | Volume):
        _refuse_placing(spacing, affine, "a scan")
        return scan
    if isinstance(scan, np.ndarray):
        return _of_array(scan, id or "scan", spacing, affine)
    module = type(scan).__module__.partition(".")[0]
    if module not in _LIBRARIES:
        raise UsageError(
            f"a scan is {type(scan).__name__}; expected a path, an array, or an image of Pillow, nibabel or pydicom"
        )
    _refuse_placing(spacing, affine, f"an object of {module}")
    with reading(Path(id or module)):
        return _LIBRARIES[module](scan, id or "scan")


def _refuse_placing(spacing: object, affine: object, what: str) -> None:
    if spacing is not None or affine is not None:
        raise UsageError(f"spacing or affine is given with {what}, which has its own; expected them with an array")


def _of_array(
    array: NDArray[Any], id: str, spacing: tuple[float, ...] | None, affine: NDArray[np.floating] | None
) -> Scan:
    if array.dtype.kind not in "buif" or array.size == 0:
        raise UsageError(f"an array is {array.dtype} of shape {array.shape}; expected real numbers, at least one")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
        if affine is not None:
            raise UsageError("an affine is given with an image; expected spacing, or a volume (D, H, W)")
        pixels, notes = _display(array)
        image = Image(pixels, id=id, spacing=_checked(spacing, 2), notes=notes)
        with reading(Path(id)):
            refuse_flat(pixels)
        return image
    if array.ndim == 3 and array.shape[2] == 4 and affine is None and len(spacing or ()) != 3:
        raise UsageError(
            f"an array has shape {array.shape}: colours with alpha, or a volume of four columns; expected colours "
            "alone ([..., :3]), or a volume's spacing of three lengths"
        )
    if array.ndim == 3 and 1 in array.shape[1:] and affine is None and len(spacing or ()) != 3:
        raise UsageError(
            f"an array has shape {array.shape}: a grey picture with an axis too many, or a volume of one row or "
            "column; expected the picture alone (numpy.squeeze(array)), or a volume's spacing or affine"
        )
    if array.ndim == 3 and array.shape[0] in (3, 4) and affine is None and spacing is None:
        raise UsageError(
            f"an array has shape {array.shape}: colours first, as PyTorch has them, or a volume of {array.shape[0]} "
            "slices; expected colours last (numpy.moveaxis(array, 0, -1)), or a volume's spacing or affine"
        )
    if array.ndim != 3:
        raise UsageError(f"an array has shape {array.shape}; expected (H, W), (H, W, 3) or a volume (D, H, W)")
    depth, height, width = array.shape
    shape = (depth, height, width)
    values, sentinel = without_sentinels(array)
    decided = {"sentinel": sentinel} if sentinel else {}
    if affine is not None:
        placed = np.asarray(affine, np.float64)
        if placed.shape != (4, 4) or not np.isfinite(placed).all() or np.linalg.det(placed[:3, :3]) == 0:
            raise UsageError(f"affine has shape {placed.shape} or is singular; expected a regular (4, 4)")
        return Volume(values, Geometry(shape, placed), id=id, notes=decided)
    notes = {**decided, "affine": "orientation is not known: no affine was given; left and right may be exchanged"}
    return Volume(values, Geometry.of_spacing(shape, _checked(spacing, 3)), id=id, notes=notes)


def _checked(spacing: tuple[float, ...] | None, axes: int) -> Any:
    """Spacing as floats, or None."""
    if spacing is None:
        return None
    values = tuple(float(value) for value in spacing)
    if len(values) != axes or not all(np.isfinite(value) and value > 0 for value in values):
        raise UsageError(f"spacing is {spacing}; expected {axes} lengths in mm above 0")
    return values


def _display(array: NDArray[Any]) -> tuple[FloatArray, dict[str, str]]:
    """An image's pixels in [0, 1], and notes."""
    notes: dict[str, str] = {}
    if array.dtype.kind == "b":
        return array.astype(np.float32), notes
    if array.dtype == np.uint8:
        pixels: FloatArray = array.astype(np.float32) / np.float32(255)
    elif array.dtype.kind == "f":
        if np.isnan(array).any():
            raise UsageError("an image's floats hold NaN; expected [0, 1]: give what is not measured a value")
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise UsageError(
                f"an image's floats go from {low:g} to {high:g}; expected [0, 1]: scale them, or give uint8 or uint16"
            )
        pixels = np.ascontiguousarray(array, np.float32)
    else:
        pixels, _ = stretch(array, notes)
    return (grey_if_equal(pixels) if pixels.ndim == 3 else pixels), notes


def _of_pillow(image: Any, id: str) -> Scan:
    from lexiseg.io.images import pixels_of

    pixels, notes = pixels_of(image)
    refuse_flat(pixels)
    if (frames := int(getattr(image, "n_frames", 1))) > 1:
        notes["frames"] = f"frame {image.tell() + 1} of {frames}; the others are passed over"
    return Image(pixels, id=id, notes=notes)


def _of_nibabel(image: Any, id: str) -> Scan:
    from lexiseg.io.nifti import volume_of

    return volume_of(image, id)


def _of_pydicom(dataset: Any, id: str) -> Scan:
    from lexiseg.io.dicom.headers import header_of
    from lexiseg.io.dicom.image import image_of
    from lexiseg.io.dicom.scan import read_series, the_only
    from lexiseg.io.dicom.series import series_of

    header = header_of(dataset, Path(id))
    if header.count == 1 and not header.mosaic:
        return image_of(dataset, id)
    options = ReadOptions(id=id, max_pixels=MAX_PIXELS, max_voxels=MAX_VOXELS)
    scan = read_series(the_only(series_of([header])), options, load=lambda _: dataset)
    # There is no file that a writer could refer to.
    return replace(scan, source=None, header=None)


_LIBRARIES = {"PIL": _of_pillow, "nibabel": _of_nibabel, "pydicom": _of_pydicom}

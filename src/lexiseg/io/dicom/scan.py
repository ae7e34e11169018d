"""A DICOM series to the scan that it is, or to what its headers say of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.dicom.files import read_dataset, read_header, refuse_large, refuse_many
from lexiseg.io.dicom.image import image_of
from lexiseg.io.dicom.series import Series
from lexiseg.io.dicom.volume import read_stack
from lexiseg.io.intensities import volume_values
from lexiseg.io.read import ReadOptions, chosen_volume
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Scan, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# A Siemens mosaic is one picture of a volume's slices side by side; nibabel knows where they lie.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def the_only(found: Sequence[Series]) -> Series:
    """The one scan of a file.

    Raises:
        UnreadableScan: its frames are several, of different grids; the reason alone.
    """
    if len(found) > 1:
        raise UnreadableScan(
            f"its frames have {len(found)} sizes or orientations; name its folder, and one of them with --series"
        )
    return found[0]


def read_series(
    series: Series, options: ReadOptions, *, source: Path | None = None, load: Callable[[Path], Dataset] | None = None
) -> Scan:
    """The scan of a series; of several volumes the one that `options.volume` chooses.

    Args:
        series: from `series_of`.
        options: the id, the limits, and which volume.
        source: what the scan is said to be read from; its only file, or their folder, when None.
        load: how a file's dataset is had; from the disk when None.

    Raises:
        UnreadableScan: it cannot be read, or a choice is missing; the reason alone.
    """
    if series.error:
        raise UnreadableScan(series.error)
    load = load or (
        lambda path: read_dataset(path, options.max_pixels if len(series.files) > 1 else options.max_voxels)
    )
    place = source or (series.files[0] if len(series.files) == 1 else series.files[0].parent)
    which = chosen_volume(series.volumes, options.volume)
    if series.kind == "image":
        image = image_of(load(series.files[0]), options.id, source=series.files[0])
        return replace(image, notes={**image.notes, **series.notes})
    if series.mosaic:
        return _read_mosaic(series.files[which], options, dict(series.notes), place, load)
    return read_stack(series.stacks[which], options, notes=dict(series.notes), source=place, load=load)


def _read_mosaic(
    path: Path, options: ReadOptions, notes: dict[str, str], source: Path, load: Callable[[Path], Dataset]
) -> Volume:
    geometry, backwards = mosaic_geometry(path)
    picture = image_of(load(path), options.id)
    if picture.native is None:
        raise UnreadableScan("it is a mosaic in colour; expected grey")
    shape = geometry.shape
    if shape[1] * shape[2] * shape[0] > picture.native.size:
        raise UnreadableScan("it is a mosaic of fewer tiles than slices; export it again")
    notes = {"format": "DICOM", "mosaic": f"{shape[0]} slices of one picture", **notes}
    values = volume_values(cut_mosaic(picture.native, shape, backwards=backwards), notes)
    return Volume(values, geometry, id=options.id, unit=picture.unit, source=source, notes=notes)


def describe_series(series: Series, options: ReadOptions) -> Description:
    """What the headers of a series say; see `Description`."""
    header = series.header
    about = Description(
        kind=series.kind,
        series_uid=header.series,
        modality=header.modality,
        files=len(series.files),
        shape=(1, header.rows, header.columns),
        number=header.series_number,
        text=header.description,
        notes=tuple(f"{name}: {words}" for name, words in series.notes.items()),
    )
    if series.error:
        return about.refused(series.error)
    if series.kind == "image":
        frame = header.frames[0]
        return about.with_image(frame.orientation, header.pixel_spacing[0])
    try:
        which = chosen_volume(series.volumes, options.volume)
    except UnreadableScan as error:
        return about.with_geometry(_geometry(series, 0)).refused(str(error))
    geometry = _geometry(series, which)
    refuse_large(header.rows, header.columns, options.max_pixels)
    refuse_many(geometry.shape, options.max_voxels)
    if series.mosaic:
        return about.with_geometry(geometry)
    notes = tuple(f"{name}: {words}" for name, words in series.stacks[which].notes.items())
    return about.with_geometry(geometry, notes)


def _geometry(series: Series, which: int) -> Geometry:
    return mosaic_geometry(series.files[which])[0] if series.mosaic else series.stacks[which].geometry


def mosaic_geometry(path: Path) -> tuple[Geometry, bool]:
    """The grid of a mosaic's slices, in the order of their positions along the normal.

    Returns:
        It, and whether that order is the reverse of the mosaic's.

    Raises:
        UnreadableScan: the private header does not say how many slices there are, or where; the reason alone.
    """
    # Here, because importing nibabel takes 0.5 s and few files are mosaics.
    from nibabel.nicom import dicomwrappers

    header = read_header(path)
    wrapped = dicomwrappers.wrapper_from_data(header)
    if not isinstance(wrapped, dicomwrappers.MosaicWrapper) or wrapped.image_shape is None:
        raise UnreadableScan("it is a mosaic whose private header does not say how many slices it has")
    rows, columns, depth = (int(length) for length in wrapped.image_shape)
    # nibabel counts rows before columns.
    lps = np.asarray(wrapped.affine, np.float64)[:, [1, 0, 2, 3]]
    if min(rows, columns, depth) < 1 or not np.isfinite(lps).all():
        raise UnreadableScan("it is a mosaic whose private header does not say where its slices lie")
    backwards = float(np.cross(lps[:3, 0], lps[:3, 1]) @ lps[:3, 2]) < 0
    if backwards:
        lps[:3, 3] += (depth - 1) * lps[:3, 2]
        lps[:3, 2] *= -1
    frame = str(header.get("FrameOfReferenceUID") or "")
    return Geometry((depth, rows, columns), _LPS_TO_RAS @ lps + 0.0, frame), backwards


def cut_mosaic(picture: NDArray[Any], shape: tuple[int, int, int], *, backwards: bool) -> NDArray[Any]:
    """The slices (D, H, W) of a mosaic's picture, row by row of its tiles."""
    depth, rows, columns = shape
    across = picture.shape[1] // columns
    tiles = picture[: picture.shape[0] // rows * rows, : across * columns].reshape(-1, rows, across, columns)
    slices = tiles.swapaxes(1, 2).reshape(-1, rows, columns)[:depth]
    return np.ascontiguousarray(slices[::-1] if backwards else slices)

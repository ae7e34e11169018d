"""One DICOM frame as the image that a viewer shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lexiseg.io.dicom.display import colour_pixels, grey_pixels
from lexiseg.io.dicom.fields import unit_of, usable
from lexiseg.io.dicom.files import (
    DicomInstances,
    Frame,
    ensure_transfer_syntax,
    refuse_mismatched_frames,
    refuse_no_image,
    undecodable,
)
from lexiseg.io.dicom.headers import directions_of, pixel_spacing
from lexiseg.io.intensities import refuse_flat
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def image_of(dataset: Dataset, id: str, *, source: Path | None = None) -> Image:
    """A dataset of one frame as an image.

    Raises:
        UnreadableScan: it holds no image, or its pixels cannot be decoded; the reason alone.
    """
    from pydicom.pixels import pixel_array

    refuse_no_image(dataset)
    dataset, decided = usable(dataset)
    ensure_transfer_syntax(dataset)
    refuse_mismatched_frames(dataset)
    try:
        stored: NDArray[Any] = pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:
        raise undecodable(dataset.file_meta.TransferSyntaxUID) from error
    notes = {"format": "DICOM", "photometric": str(dataset.PhotometricInterpretation), **decided}
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels, native = colour_pixels(stored, dataset, notes), None
    else:
        grey = grey_pixels(stored, dataset)
        pixels, native = grey.shown, grey.native
        notes.update(grey.notes)
    refuse_flat(pixels)
    spacing, origin = pixel_spacing(dataset)
    if origin:
        notes["spacing"] = origin
    directions, geometry = directions_of(dataset), None
    if directions is not None:
        geometry = Geometry.of_picture((pixels.shape[0], pixels.shape[1]), directions, spacing)
    image = Image(
        pixels=pixels,
        id=id,
        spacing=spacing,
        geometry=geometry,
        native=native,
        unit=unit_of(dataset),
        source=source,
        header=None if source is None else DicomInstances((Frame(source, 0),)),
        notes=notes,
    )
    if image.axes.turns:
        notes["orientation"] = "stored mirrored or turned by its header, looked at upright, masks and boxes as stored"
    return image

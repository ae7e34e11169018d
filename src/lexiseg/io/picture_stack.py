"""Pictures as the slices of one volume, where somebody says that they are, and how far apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lexiseg.errors import UnreadableScan
from lexiseg.io.describe import Description
from lexiseg.io.images import eight_bits, refuse_too_large
from lexiseg.io.intensities import volume_values
from lexiseg.io.names import HEAD_BYTES, image_format, printable
from lexiseg.io.read import CappedFile, ReadOptions
from lexiseg.io.tiff import PASSED_OVER
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume
from lexiseg.values.window import ValueRange, refuse_flat_values

_PHOTOMETRIC, _SUBFILE = 262, 254
_PLACED = "the spacing is as you gave it; nobody knows how the pictures lie in the body"


@dataclass(frozen=True, eq=False)
class PictureStack:
    """PNG, TIFF and other pictures of one size, each a slice; the pages of a TIFF are slices of their own.

    Slices are in the order of the names, in which numbers count as numbers: slice2 lies before slice10. Grey of 8
    bits, and colour, are shown as they are; grey of more bits keeps its numbers.

    Attributes:
        files: at least one.
        spacing: mm along slice, row and column.
    """

    files: tuple[Path, ...]
    spacing: tuple[float, float, float]

    def read(self, options: ReadOptions, place: Path) -> Volume:
        """See `lexiseg.io.sources.Content.read`."""
        slices: list[NDArray[Any]] = []
        for number, (file, values) in enumerate(self._pages(options, decode=True), start=1):
            if slices and (values.shape != slices[0].shape or values.dtype != slices[0].dtype):
                raise UnreadableScan(
                    f"its slice {number} ({printable(file.name)}) is {_words(values)}, the first is "
                    f"{_words(slices[0])}; expected pictures of one size and kind"
                )
            slices.append(values)
            if len(slices) * values.size > options.max_voxels:
                raise UnreadableScan(f"it holds more than {options.max_voxels} voxels; give fewer or smaller pictures")
        values = np.stack(slices)
        notes = {"format": "stack of pictures", "orientation": _PLACED}
        window = None
        if values.dtype == np.uint8:
            window = ValueRange(0, 255, "as displayed")
            if values.ndim == 4 and all(np.array_equal(values[..., 0], values[..., k]) for k in (1, 2)):
                values = np.ascontiguousarray(values[..., 0])
            refuse_flat_values(values)
        else:
            values = volume_values(values, notes)
        depth, height, width = values.shape[:3]
        geometry = Geometry.of_spacing((depth, height, width), self.spacing)
        return Volume(values, geometry, id=options.id, window=window, source=place, notes=notes)

    def describe(self, options: ReadOptions) -> Description:
        """See `lexiseg.io.sources.Content.describe`."""
        sizes = [values.shape for _, values in self._pages(options, decode=False)]
        about = Description(kind="volume", files=len(self.files), notes=(f"orientation: {_PLACED}",))
        if len(set(sizes)) > 1:
            return about.refused(f"its pictures have {len(set(sizes))} different sizes; expected one")
        return about.with_geometry(Geometry.of_spacing((len(sizes), *sizes[0]), self.spacing))

    def _pages(self, options: ReadOptions, *, decode: bool) -> Iterator[tuple[Path, NDArray[Any]]]:
        """Each slice; of the right size and empty where it need not be decoded."""
        for file in sorted(self.files, key=lambda path: [_natural(part) for part in path.parts]):
            with CappedFile(file) as handle:
                kind = image_format(handle.read(HEAD_BYTES))
                handle.seek(0)
                if kind is None:
                    raise UnreadableScan(
                        f"its file {printable(file.name)} is no picture; expected PNG, TIFF or the like"
                    )
                try:
                    with Image.open(handle, formats=[kind]) as image:
                        for number in range(int(getattr(image, "n_frames", 1))):
                            image.seek(number)
                            if int(getattr(image, "tag_v2", {}).get(_SUBFILE, 0)) & PASSED_OVER:
                                continue
                            refuse_too_large(image.size, options.max_pixels)
                            shape = image.size[::-1]
                            yield file, _values(image) if decode else np.broadcast_to(np.uint8(0), shape)
                except UnidentifiedImageError as error:
                    raise UnreadableScan(
                        f"its file {printable(file.name)} is of a kind that is not supported"
                    ) from error


def _natural(name: str) -> list[tuple[int, str]]:
    """A name by which "2" sorts before "10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def _words(values: NDArray[Any]) -> str:
    colour = " in colour" if values.ndim == 3 else ""
    return f"{values.shape[1]} x {values.shape[0]} of {8 * values.dtype.itemsize} bits{colour}"


def _values(image: Image.Image) -> NDArray[Any]:
    """Numbers of a picture: uint8 (H, W) or (H, W, 3) as it is displayed, or those of more bits as they are stored."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        tags: Any = getattr(image, "tag_v2", {})
        if tags.get(_PHOTOMETRIC) == 0:
            raise UnreadableScan("it counts from white, with more than 8 bits; save it as PNG")
        values: NDArray[Any] = np.array(upright)
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    pixels = eight_bits(upright, {})
    return np.rint(pixels * 255).astype(np.uint8)

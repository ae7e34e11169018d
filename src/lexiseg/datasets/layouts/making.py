"""Masks and images that a data set holds in another form than a manifest can name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lexiseg.datasets.layouts.layout import Derived
from lexiseg.errors import UnreadableScan
from lexiseg.files import atomic_write
from lexiseg.io.masks import Stored, read_stored
from lexiseg.io.names import printable
from lexiseg.io.read import MAX_VOXELS, reading
from lexiseg.io.write import write_mask
from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume


def union(masks: Sequence[Path]) -> Derived:
    """Several masks of one image as one: a pixel is inside where it is inside any of them."""

    def write(folder: Path, stem: str) -> Path:
        stored = [read_stored(path) for path in masks]
        shapes = {each.values.shape for each in stored}
        if len(shapes) > 1:
            named = ", ".join(f"{path.name} {each.values.shape}" for path, each in zip(masks, stored, strict=True))
            raise UnreadableScan(printable(f"masks of one image differ in size ({named}); expected one size"))
        inside = np.logical_or.reduce([each.inside() for each in stored])
        return written_mask(inside, folder, stem, like=stored[0])

    return Derived(tuple(masks), write)


def labels_of(path: Path, values: Sequence[int]) -> Derived:
    """The voxels of a label map that have one of some values; on the label map's own grid."""

    def write(folder: Path, stem: str) -> Path:
        stored = read_stored(path)
        return written_mask(np.isin(stored.values, list(values)), folder, stem, like=stored)

    return Derived((path,), write)


def filled(path: Path) -> Derived:
    """The inside of a closed outline, the outline included; see `fill_outline`."""

    def write(folder: Path, stem: str) -> Path:
        with reading(path):
            inside = fill_outline(read_stored(path).inside())
        return written_mask(inside, folder, stem)

    return Derived((path,), write)


def fill_outline(outline: BoolArray) -> BoolArray:
    """Fill one convex outline, which may be cut by the image's border; a filled shape stays as it is.

    Inside is the 4-connected part of the rest of the image that holds the centre of the outline's box. A part
    that reaches beyond that box has leaked through a gap.

    Args:
        outline: bool (H, W).

    Returns:
        bool (H, W), the outline included; empty where the outline is.

    Raises:
        UnreadableScan: the outline is not closed; the reason alone.
    """
    from scipy.ndimage import label

    if not outline.any():
        return outline.copy()
    rows, columns = np.flatnonzero(outline.any(1)), np.flatnonzero(outline.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    centre = (top + bottom) // 2, (left + right) // 2
    if outline[centre]:
        return outline.copy()
    parts, _ = label(~outline)
    inside: BoolArray = np.asarray(parts == parts[centre])
    beyond = inside.copy()
    beyond[top : bottom + 1, left : right + 1] = False
    if beyond.any():
        raise UnreadableScan("its outline is not closed; expected one that can be filled")
    return inside | outline


def frame_of(path: Path, index: int) -> Derived:
    """One volume of a NIfTI file of four axes as float32, with the file's geometry."""

    def write(folder: Path, stem: str) -> Path:
        import nibabel as nib

        with reading(path):
            image: Any = nib.load(path)
            shape = tuple(int(length) for length in image.shape)
            if len(shape) != 4 or not 0 <= index < shape[3]:
                raise UnreadableScan(f"its shape is {shape}; expected four axes, the last longer than {index}")
            if math.prod(shape[:3]) > MAX_VOXELS:
                raise UnreadableScan(f"its shape is {shape}, over the limit of {MAX_VOXELS} voxels")
            header = image.header.copy()
            header.extensions.clear()
            for text in ("descrip", "aux_file", "db_name", "intent_name"):
                header[text] = b""
            header.set_data_dtype(np.float32)
            voxels = np.asarray(image.dataobj[..., index], np.float32)
            # affine=None leaves the header's sform and qform as they are.
            content = type(image)(voxels, None, header).to_bytes()
        return atomic_write(folder / f"{stem}.nii", lambda file: file.write(content))

    return Derived((path,), write)


def frames(path: Path) -> int:
    """How many volumes a NIfTI file's header claims; 1 where that cannot be read, as reading it will tell."""
    import nibabel as nib

    try:
        with reading(path):
            shape = nib.load(path).shape
    except UnreadableScan:
        return 1
    return int(shape[3]) if len(shape) == 4 else 1


def written_mask(inside: BoolArray, folder: Path, stem: str, *, like: Stored | None = None) -> Path:
    """Write a mask as STEM_mask.png, or of a volume as STEM_mask.nii.gz on the voxels of what it was made of."""
    blank: Scan
    if inside.ndim == 3:
        depth, height, width = inside.shape
        placed = like.geometry if like is not None and like.geometry is not None else None
        geometry = placed or Geometry.of_spacing((depth, height, width))
        blank = Volume(np.zeros(inside.shape, np.uint8), geometry, header=like.header if like is not None else None)
    else:
        blank = Image(np.zeros(inside.shape, np.float32))
    return write_mask(inside, blank, folder, stem=stem)


def written_grey(values: NDArray[Any], folder: Path, stem: str) -> Path:
    """Write whole numbers (H, W) as STEM.png of 16 bits, losslessly; negative ones move up to begin at 0.

    Reading a 16-bit image stretches it to its own percentiles, so that the shift does not show.

    Raises:
        UnreadableScan: the numbers span more than 16 bits; the reason alone.
    """
    low, high = int(values.min()), int(values.max())
    low = min(low, 0)
    if high - low > np.iinfo(np.uint16).max:
        raise UnreadableScan(f"its pixels go from {low} to {high}; expected a span of 16 bits at most")
    grey = (values.astype(np.int64) - low).astype(np.uint16)
    return atomic_write(folder / f"{stem}.png", lambda file: Pillow.fromarray(grey).save(file, format="PNG"))

"""A volume as images, and images' results as a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.scan import Scan

_T = TypeVar("_T", bound=np.generic)


def iterate_slices(scan: Scan) -> Iterator[Scan]:
    """The slices of a volume in order, each a grey image (H, W); an image yields itself.

    A slice's id is the volume's with "_slice" and its index, its spacing (row, column); intensities are those
    of the volume, so a slice may be constant. Pixels are views: nothing is copied.
    """
    if not scan.volume:
        yield scan
        return
    for index, pixels in enumerate(scan.pixels):
        yield Scan(
            pixels=pixels,
            id=f"{scan.id}_slice{index:04d}",
            spacing=scan.spacing[1:] if scan.spacing else None,
            source=scan.source,
            notes={**scan.notes, "slice": str(index)},
        )


def stack_slices(results: Sequence[NDArray[_T]], scan: Scan) -> NDArray[_T]:
    """Put what was made of each slice back together on the scan's grid; the inverse of `iterate_slices`.

    Args:
        results: one array (H, W) for each slice, in order; for an image, one.
        scan: the scan that was iterated.

    Returns:
        (D, H, W) for a volume, (H, W) for an image; the dtype of the arrays.

    Raises:
        ValueError: the number of slices or their shape differs from the scan's.
    """
    expected = scan.shape if scan.volume else (1, *scan.shape)
    shapes = {result.shape for result in results}
    if len(results) != expected[0] or shapes != {expected[1:]}:
        raise ValueError(f"{len(results)} slices of shape {sorted(shapes)}, expected {expected[0]} of {expected[1:]}")
    return np.stack(results) if scan.volume else results[0]

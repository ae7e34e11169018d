"""What is measured of volumes besides overlap and boundaries: how far the size is off, and which slices are right."""

from __future__ import annotations

import math

import numpy as np

from lexiseg.values.arrays import BoolArray
from lexiseg.values.geometry import Geometry

_MM3_PER_ML = 1000.0


def volume_error(truth: BoolArray, prediction: BoolArray, geometry: Geometry) -> float:
    """|V(prediction) - V(truth)| in ml; NaN where the spacing is not known.

    It needs no rule for empty masks, unlike an error relative to the truth.

    Args:
        truth: bool (D, H, W).
        prediction: bool, the same shape.
        geometry: of both.
    """
    sizes = [geometry.volume(mask) for mask in (truth, prediction)]
    return math.nan if None in sizes else abs(sizes[1] - sizes[0]) / _MM3_PER_ML  # type: ignore[operator]


def largest_error(truth: BoolArray, geometry: Geometry) -> float:
    """The largest `volume_error` that any mask has, in ml: everything, or nothing, whichever is further off."""
    return max(volume_error(truth, np.full_like(truth, fill), geometry) for fill in (False, True))


def slice_fractions(truth: BoolArray, prediction: BoolArray) -> dict[str, tuple[int, int]]:
    """Numerators and denominators of presence slice by slice, along the first axis.

    Sensitivity is the share of slices with the target in which anything was drawn; specificity the share of slices
    without it in which nothing was. A denominator of 0 is undefined.

    Args:
        truth: bool (D, H, W).
        prediction: bool, the same shape.

    Example:
        >>> truth = np.array([True, True, False]).reshape(3, 1, 1)
        >>> slice_fractions(truth, np.roll(truth, 1))
        {'slice_sensitivity': (1, 2), 'slice_specificity': (0, 1)}
    """
    has, drawn = (mask.any(axis=(1, 2)) for mask in (truth, prediction))
    return {
        "slice_sensitivity": (int((has & drawn).sum()), int(has.sum())),
        "slice_specificity": (int((~has & ~drawn).sum()), int((~has).sum())),
    }

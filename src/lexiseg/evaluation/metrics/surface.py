"""Distances between the boundaries of two masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexiseg.evaluation.metrics.overlap import EmptyRule, emptiness_of, score_of_empty
from lexiseg.values.arrays import BoolArray

# A tolerance of 1.4 mm on a grid of 0.7 mm means two pixels, whatever the last bit of 2 x 0.7 is.
_ROUNDING = 1e-9


def boundary(mask: BoolArray) -> BoolArray:
    """The mask's pixels with a neighbour, across an edge or face, that is outside.

    Beyond the grid is outside, so a mask that touches the border has a boundary there. This is the mask
    without its erosion by a cross, as in MONAI; counted are edge pixels or voxels, each as one. DeepMind's
    surface-distance weighs each by the area of the surface through it instead, and its values differ a
    little.

    Args:
        mask: bool, two or three axes.

    Returns:
        bool, the same shape.
    """
    padded = np.pad(mask, 1)
    core = (slice(1, -1),) * mask.ndim
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            shifted = slice(start, start + mask.shape[axis])
            inner &= padded[(*core[:axis], shifted, *core[axis + 1 :])]
    return np.asarray(mask & ~inner)


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances from each boundary pixel to the nearest boundary pixel of the other mask.

    Attributes:
        from_truth: float64 (N,), from the truth's boundary to the prediction's.
        from_prediction: float64 (M,), the other way.
    """

    from_truth: NDArray[np.float64]
    from_prediction: NDArray[np.float64]

    @classmethod
    def of(cls, truth: BoolArray, prediction: BoolArray, spacing: Sequence[float] | None = None) -> SurfaceDistances:
        """Measure, centre to centre.

        A k-d tree of boundary points, and not a distance transform of the grid: it is exact too, and on a
        volume takes time and memory of the surface only.

        Args:
            truth: bool (H, W) or (D, H, W), not empty.
            prediction: bool, the same shape, not empty.
            spacing: the unit's length of a step along each axis; 1 (pixels) when None.

        Raises:
            ValueError: a mask is empty, or the shapes or the spacing's length differ.
        """
        # Here, because importing it takes longer than many a set's evaluation without distances.
        from scipy.spatial import KDTree

        if truth.shape != prediction.shape:
            raise ValueError(f"the masks have shapes {truth.shape} and {prediction.shape}, expected the same")
        steps = np.ones(truth.ndim) if spacing is None else np.asarray(spacing, np.float64)
        if steps.shape != (truth.ndim,):
            raise ValueError(f"the spacing has {steps.size} values, expected one for each of {truth.ndim} axes")
        ours, theirs = (np.argwhere(boundary(mask)) * steps for mask in (truth, prediction))
        if not len(ours) or not len(theirs):
            raise ValueError("a mask is empty; it has no boundary to measure from")
        forth, back = KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]
        return cls(np.asarray(forth), np.asarray(back))

    def within(self, tolerance: float) -> tuple[int, int]:
        """How many boundary pixels lie within a distance of the other boundary, and how many there are."""
        limit = tolerance * (1 + _ROUNDING)
        near = np.count_nonzero(self.from_truth <= limit) + np.count_nonzero(self.from_prediction <= limit)
        return int(near), len(self.from_truth) + len(self.from_prediction)

    def nsd(self, tolerance: float) -> float:
        """See `nsd`."""
        near, total = self.within(tolerance)
        return near / total

    def hd95(self) -> float:
        """See `hd95`."""
        return float(max(np.percentile(self.from_truth, 95), np.percentile(self.from_prediction, 95)))

    def assd(self) -> float:
        """See `assd`."""
        total = len(self.from_truth) + len(self.from_prediction)
        return float((self.from_truth.sum() + self.from_prediction.sum()) / total)


def nsd(
    truth: BoolArray,
    prediction: BoolArray,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
    empty: EmptyRule = EmptyRule.score,
) -> float:
    """Normalised surface distance (surface Dice): the share of both boundaries close to the other.

    (#{p in dP: d(p, dT) <= tau} + #{t in dT: d(t, dP) <= tau}) / (#dP + #dT), where dT and dP are the
    boundary pixels, each counted as one (see `boundary`). No unit, 0 to 1. Empty masks: see
    `lexiseg.evaluation.metrics.overlap`. Source: S. Nikolov et al., J Med Internet Res 23 (2021) e26151.

    Args:
        truth: bool (H, W) or (D, H, W).
        prediction: bool, the same shape.
        tolerance: tau, in the spacing's unit: mm, or pixels where there is no spacing.
        spacing: mm along each axis; None counts in pixels.
        empty: the rule for empty masks.

    Raises:
        ValueError: the shapes or the spacing's length differ.
    """
    measured = _measure("nsd", truth, prediction, spacing, empty)
    return measured if isinstance(measured, float) else measured.nsd(tolerance)


def hd95(
    truth: BoolArray,
    prediction: BoolArray,
    *,
    spacing: Sequence[float] | None = None,
    empty: EmptyRule = EmptyRule.score,
) -> float:
    """Hausdorff distance at the 95th percentile: the larger of the two directions' 95th percentiles.

    max(P95 over dT of d(t, dP), P95 over dP of d(p, dT)), percentiles interpolated linearly, as in MONAI. In
    mm (pixels without spacing), 0 to the grid's diagonal. Empty masks: see
    `lexiseg.evaluation.metrics.overlap`. Source: D. P. Huttenlocher et al., IEEE PAMI 15 (1993) 850-863
    (partial distances); Metrics Reloaded. Arguments and errors as of `nsd`.
    """
    measured = _measure("hd95", truth, prediction, spacing, empty)
    return measured if isinstance(measured, float) else measured.hd95()


def assd(
    truth: BoolArray,
    prediction: BoolArray,
    *,
    spacing: Sequence[float] | None = None,
    empty: EmptyRule = EmptyRule.score,
) -> float:
    """Average symmetric surface distance: the mean over both boundaries' pixels together.

    (sum over dT of d(t, dP) + sum over dP of d(p, dT)) / (#dT + #dP). In mm (pixels without spacing), 0 to
    the grid's diagonal. Empty masks: see `lexiseg.evaluation.metrics.overlap`. Source: T. Heimann et al., IEEE
    TMI 28 (2009) 1251-1265. Arguments and errors as of `nsd`.
    """
    measured = _measure("assd", truth, prediction, spacing, empty)
    return measured if isinstance(measured, float) else measured.assd()


def diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """The length of a grid's diagonal, sqrt(sum (n_i s_i)^2), in mm, or pixels without spacing."""
    steps = np.ones(len(shape)) if spacing is None else np.asarray(spacing, np.float64)
    return float(np.linalg.norm(np.asarray(shape) * steps))


def _measure(
    metric: str,
    truth: BoolArray,
    prediction: BoolArray,
    spacing: Sequence[float] | None,
    empty: EmptyRule,
) -> SurfaceDistances | float:
    if truth.shape != prediction.shape or (truth.any() and prediction.any()):
        return SurfaceDistances.of(truth, prediction, spacing)
    return score_of_empty(metric, emptiness_of(truth, prediction), rule=empty, diagonal=diagonal(truth.shape, spacing))

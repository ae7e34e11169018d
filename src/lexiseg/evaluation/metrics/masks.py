"""All metrics of one mask in one pass: overlap from counts of pixels, distances between boundaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lexiseg.evaluation.metrics.catalogue import (
    Emptiness,
    EmptyRule,
    emptiness_of,
    score_of_empty,
    surface_keys,
    worst_score,
)
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import Overlap

# A tolerance of 1.4 mm on a grid of 0.7 mm means two pixels, whatever the last bit of 2 x 0.7 is.
_ROUNDING = 1e-9


def boundary(mask: BoolArray) -> BoolArray:
    """The mask's pixels with a neighbour, across an edge or face, that is outside.

    Beyond the grid is outside, so a mask that touches the border has a boundary there. An axis of length one has
    no faces: a volume of one slice has the boundary of its picture. This is the mask
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
    for axis in _long(mask.shape):
        for start in (0, 2):
            shifted = slice(start, start + mask.shape[axis])
            inner &= padded[(*core[:axis], shifted, *core[axis + 1 :])]
    return np.asarray(mask & ~inner)


def _long(shape: Sequence[int]) -> list[int]:
    """The axes along which a mask can have a boundary; of a single pixel all."""
    return [axis for axis, length in enumerate(shape) if length > 1] or list(range(len(shape)))


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
    def of(
        cls,
        truth: BoolArray,
        prediction: BoolArray,
        spacing: Sequence[float] | None = None,
        positions: Sequence[float] | None = None,
        directions: NDArray[np.float64] | None = None,
    ) -> SurfaceDistances:
        """Measure, centre to centre.

        A k-d tree of boundary points, and not a distance transform of the grid: it is exact too, and on a
        volume takes time and memory of the surface only.

        Args:
            truth: bool (H, W) or (D, H, W), not empty.
            prediction: bool, the same shape, not empty.
            spacing: the unit's length of a step along each axis; 1 (pixels) when None.
            positions: of the slices along the first axis, where their distances differ.
            directions: (n, n), unit vectors of the axes in rows, where they are not at right angles.

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
        if positions is not None:
            for points, mask in ((ours, truth), (theirs, prediction)):
                points[:, 0] = np.asarray(positions)[np.argwhere(boundary(mask))[:, 0]]
        if directions is not None:
            ours, theirs = ours @ directions, theirs @ directions
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
        """Normalised surface distance (surface Dice): the share of both boundaries close to the other.

        (#{p in dP: d(p, dT) <= tau} + #{t in dT: d(t, dP) <= tau}) / (#dP + #dT), where dT and dP are the boundary
        pixels, each counted as one. No unit, 0 to 1. Source: S. Nikolov et al., J Med Internet Res 23 (2021)
        e26151.

        Args:
            tolerance: tau, in the distances' unit.
        """
        near, total = self.within(tolerance)
        return near / total

    def hd95(self) -> float:
        """Hausdorff distance at the 95th percentile: the larger of the two directions' 95th percentiles.

        max(P95 over dT of d(t, dP), P95 over dP of d(p, dT)), percentiles interpolated linearly, as in MONAI. In
        the distances' unit, 0 to the grid's diagonal. Source: D. P. Huttenlocher et al., IEEE PAMI 15 (1993)
        850-863 (partial distances); Metrics Reloaded (Maier-Hein et al., Nature Methods 2024).
        """
        return float(max(np.percentile(self.from_truth, 95), np.percentile(self.from_prediction, 95)))

    def assd(self) -> float:
        """Average symmetric surface distance: the mean over both boundaries' pixels together.

        (sum over dT of d(t, dP) + sum over dP of d(p, dT)) / (#dT + #dP). In the distances' unit, 0 to the grid's
        diagonal. Source: T. Heimann et al., IEEE TMI 28 (2009) 1251-1265.
        """
        total = len(self.from_truth) + len(self.from_prediction)
        return float((self.from_truth.sum() + self.from_prediction.sum()) / total)


def diagonal(
    shape: Sequence[int], spacing: Sequence[float] | None = None, directions: NDArray[np.float64] | None = None
) -> float:
    """The length of a grid's longest diagonal, sqrt(sum (n_i s_i)^2) at right angles, in mm, or pixels without spacing.

    Axes of length one do not count: a volume of one slice has the diagonal of its picture.

    Args:
        shape: of the grid.
        spacing: the unit's length of a step along each axis; 1 (pixels) when None.
        directions: see `SurfaceDistances.of`.

    Example:
        >>> diagonal((3, 4))
        5.0
    """
    steps = np.ones(len(shape)) if spacing is None else np.asarray(spacing, np.float64)
    long = _long(shape)
    lengths = (np.asarray(shape) * steps)[long]
    if directions is None:
        return float(np.linalg.norm(lengths))
    edges = lengths[:, None] * directions[long]
    return max(float(np.linalg.norm(np.array(signs) @ edges)) for signs in product((-1, 1), repeat=len(long)))


def overlap_fractions(overlap: Overlap) -> dict[str, tuple[int, int]]:
    """Numerator and denominator of each overlap metric: sums of both over a set give its pooled value.

    With TP, FP and FN pixels: Dice 2 TP / (2 TP + FP + FN), see `lexiseg.values.overlap.dice`; IoU (P. Jaccard, New
    Phytologist 11 (1912) 37-50) TP / (TP + FP + FN); precision TP / (TP + FP); recall TP / (TP + FN) (Metrics
    Reloaded, Maier-Hein et al., Nature Methods 2024).

    Args:
        overlap: of the truth with the prediction, in this order.
    """
    return {
        "dice": overlap.dice,
        "iou": (overlap.both, overlap.first + overlap.second - overlap.both),
        "precision": (overlap.both, overlap.second),
        "recall": (overlap.both, overlap.first),
    }


@dataclass(frozen=True)
class MaskScore:
    """What was measured of one mask.

    Attributes:
        values: by key (see `Metric.key`); NaN where undefined and left out.
        fractions: numerator and denominator of those metrics that can be pooled over a set.
        emptiness: which of the masks is empty.
        truth_size: of the true mask: mm2 or mm3 where there is a spacing, else pixels or voxels.
        predicted_size: of the predicted mask, likewise.
    """

    values: Mapping[str, float]
    fractions: Mapping[str, tuple[float, float]]
    emptiness: Emptiness
    truth_size: float
    predicted_size: float


def score_mask(
    truth: BoolArray,
    prediction: BoolArray,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    empty: EmptyRule = EmptyRule.score,
    positions: Sequence[float] | None = None,
    directions: NDArray[np.float64] | None = None,
) -> MaskScore:
    """Dice, IoU, precision, recall, NSD, HD95 and ASSD of a mask; boundaries are measured once for all three.

    Args:
        truth: bool (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing: mm along each axis; None measures in pixels, which the keys then say.
        tolerance: of NSD, in mm, or pixels without spacing.
        empty: the rule for empty masks.
        positions: mm of a volume's slices, where their distances differ.
        directions: see `SurfaceDistances.of`.

    Raises:
        ValueError: the shapes or the spacing's length differ.
    """
    overlap = Overlap.of(truth, prediction)
    fractions: dict[str, tuple[float, float]] = {**overlap_fractions(overlap)}
    emptiness = emptiness_of(truth, prediction)
    keys = surface_keys(spacing, tolerance)
    if emptiness is Emptiness.neither:
        values = {name: above / below for name, (above, below) in fractions.items()}
        distances = SurfaceDistances.of(truth, prediction, spacing, positions, directions)
        values[keys["nsd"]] = distances.nsd(tolerance)
        values[keys["hd95"]] = distances.hd95()
        values[keys["assd"]] = distances.assd()
        fractions[keys["nsd"]] = distances.within(tolerance)
    else:
        far = diagonal(truth.shape, spacing, directions)
        values = {
            keys.get(name, name): score_of_empty(name, emptiness, rule=empty, diagonal=far)
            for name in (*fractions, *keys)
        }
        fractions[keys["nsd"]] = (0, int(boundary(truth).sum()) + int(boundary(prediction).sum()))
    cell = math.prod(spacing) if spacing is not None else 1.0
    return MaskScore(values, fractions, emptiness, overlap.first * cell, overlap.second * cell)


def worst_mask_score(
    truth: BoolArray,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    directions: NDArray[np.float64] | None = None,
) -> MaskScore:
    """What a missing prediction scores: the worst value of each metric, also where the truth is empty.

    Its share in pooled values is that of an empty mask. Arguments as of `score_mask`.
    """
    nothing = score_mask(truth, truth & False, spacing=spacing, tolerance=tolerance, directions=directions)
    far = diagonal(truth.shape, spacing, directions)
    values = {key: worst_score(key.rpartition("_")[0] or key, diagonal=far) for key in nothing.values}
    return MaskScore(values, nothing.fractions, nothing.emptiness, nothing.truth_size, 0.0)

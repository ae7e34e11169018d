"""What the slices of a volume say of each other: which stay empty, which gaps close, which pieces go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.pipelines.results import MaskEstimate, SliceResult
from lexiseg.pipelines.settings import VolumeSettings
from lexiseg.regions.refine import prompts_from_region
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, Region, box_of
from lexiseg.values.overlap import dice, overlap_coefficient
from lexiseg.values.scans import Planes

Redraw = Callable[[int, Prompts, Region, SliceResult], SliceResult]
"""Asks the segmenter again: (plane, prompts, what the neighbours expect, the empty answer) -> another one."""

Recut = Callable[[FloatArray], BoolArray]
"""The mask of a probability, both (h, w)."""


def skipped_steps(settings: VolumeSettings, planes: Planes) -> tuple[str, ...]:
    """Names of the settings in mm that are asked for and have no effect, since no distance is known."""
    if planes.positions is not None:
        return ()
    wanted = {"max_gap": settings.max_gap, "min_volume": settings.min_volume, "smoothing": settings.smoothing}
    return tuple(name for name, value in wanted.items() if value > 0)


def surety(of: SliceResult) -> float:
    """How sure a slice is of its target: confidence times presence; 0 where nothing is drawn, NaN where undefined."""
    return of.confidence * of.presence if of.present else 0.0


def close_gaps(
    slices: Sequence[SliceResult],
    thickness: NDArray[np.float64],
    settings: VolumeSettings,
    redraw: Redraw,
    *,
    min_iou: float = 0.0,
) -> list[SliceResult]:
    """Ask once more in empty slices between two that have the target; all of a gap, or nothing of it.

    Args:
        slices: of a phrase, in order.
        thickness: mm of each.
        settings: their `max_gap` and `min_overlap`.
        redraw: see `Redraw`.
        min_iou: the segmenter's estimate of what is drawn in a gap must reach this share of its estimate of the
            worse end: what is not there is drawn too, and rated low.
    """
    filled = list(slices)
    drawn = [k for k, each in enumerate(slices) if each.present]
    for before, after in pairwise(drawn):
        empty = range(before + 1, after)
        ends = slices[before].estimate.mask, slices[after].estimate.mask
        if not empty or thickness[empty.start : empty.stop].sum() > settings.max_gap:
            continue
        if overlap_coefficient(*ends) < settings.min_overlap:
            continue
        # Along the normal from the middle of one end to the middle of the other.
        middles = np.cumsum(thickness) - thickness / 2
        way = (middles[empty.start : empty.stop] - middles[before]) / (middles[after] - middles[before])
        again = [redraw(k, *_between(ends, float(share)), slices[k]) for k, share in zip(empty, way, strict=True)]
        least = min_iou * min(slices[before].estimate.iou, slices[after].estimate.iou)
        if all(
            each.estimate.iou >= least and overlap_coefficient(each.estimate.mask, end) >= settings.min_overlap
            for each in again
            for end in ends
        ):
            filled[empty.start : empty.stop] = again
    return filled


def of_one_kind(
    slices: Sequence[SliceResult], holders: Collection[str], least: float, threshold: float | None
) -> list[SliceResult]:
    r"""Bound the presence in a volume that is of a kind that cannot hold the target; below the threshold it is empty.

    A volume is of one kind, which its slices tell together better than each of them alone: where the mean share of
    the kinds that can hold the target, h, is below that of the largest other kind, o, presence is at most

    .. math:: \text{least} \cdot h / o

    Args:
        slices: of a phrase, in order.
        holders: kinds that can hold what it names.
        least: the share below which a kind is not in view at all.
        threshold: the presence below which a phrase is absent; None for none.
    """
    told = [each.kinds for each in slices if each.kinds]
    if not told:
        return list(slices)
    mean = {name: float(np.mean([each[name] for each in told])) for name in told[0]}
    held = sum(share for name, share in mean.items() if name in holders)
    other = max((share for name, share in mean.items() if name not in holders), default=0.0)
    if held >= other:
        return list(slices)
    most = least * held / other
    found = []
    for each in slices:
        presence = min(each.presence, most)
        kept = each.emptied() if threshold is not None and presence < threshold else each
        found.append(replace(kept, presence=presence, held=min(each.held, most)))
    return found


def drop_unsure(slices: Sequence[SliceResult], share: float) -> list[SliceResult]:
    """Empty the pieces whose surest slice is far less sure than the surest of all.

    Where a volume has the target, the slices that show it speak more clearly for it than those that do not, and the
    preset's threshold, which is made for single scans, lies below both.

    Args:
        slices: of a phrase, in order.
        share: see `VolumeSettings.gate`; without effect where how sure a slice is is not defined.
    """
    sure = np.array([surety(each) for each in slices])
    if share == 0 or not np.isfinite(sure).all():
        return list(slices)

    def keeps(pieces: _Pieces) -> NDArray[np.bool_]:
        peaks = np.zeros(len(pieces.spans) + 1)
        for of, value in zip(pieces.labels, sure, strict=True):
            here = np.unique(of)
            peaks[here] = np.maximum(peaks[here], value)
        return np.asarray(peaks[1:] >= share * sure.max())

    return _only(slices, keeps)


def drop_pieces(
    slices: Sequence[SliceResult], thickness: NDArray[np.float64] | None, area: float, settings: VolumeSettings
) -> list[SliceResult]:
    """Empty the pieces of the target, in three dimensions, that are too small.

    Args:
        slices: of a phrase, in order.
        thickness: mm of each; None where nobody knows: sizes are then counts of voxels, and no mm3 are asked for.
        area: mm2 of a pixel; of no effect without a thickness.
        settings: their `min_slices`, `min_volume`, `min_share` and `keep`.
    """

    def keeps(pieces: _Pieces) -> NDArray[np.bool_]:
        sizes = pieces.sizes(None if thickness is None else area * thickness)
        kept = np.asarray(pieces.spans >= settings.min_slices)
        if thickness is not None:
            kept &= sizes >= settings.min_volume
        if kept.any():
            kept &= sizes >= settings.min_share * sizes[kept].max()
            if settings.keep == "largest":
                kept &= np.arange(len(sizes)) == int(np.argmax(np.where(kept, sizes, -1)))
        return kept

    asked = settings.min_slices > 1 or settings.min_volume > 0 or settings.min_share > 0 or settings.keep == "largest"
    return _only(slices, keeps) if asked else list(slices)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Pieces in three dimensions, k - 1 for the label k.

    Attributes:
        labels: (N, h, w), 0 outside.
        counts: (N, pieces) pixels of each in each slice.
    """

    labels: NDArray[Any]
    counts: NDArray[np.int64]

    @property
    def spans(self) -> NDArray[np.int64]:
        """In how many slices each is."""
        return np.asarray((self.counts > 0).sum(axis=0))

    def sizes(self, voxels: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """mm3 of each, by those of a voxel in each slice; voxels where None."""
        return np.asarray(self.counts.sum(axis=0).astype(np.float64) if voxels is None else voxels @ self.counts)


def _only(slices: Sequence[SliceResult], keeps: Callable[[_Pieces], NDArray[np.bool_]]) -> list[SliceResult]:
    """The slices with some of their pieces alone."""
    from scipy import ndimage  # here, since importing it takes longer than all of the room

    masks = [each.estimate.mask for each in slices]
    seen = np.array([box_of(mask) for mask in masks if mask.any()])
    if not len(seen):
        return list(slices)
    (x0, y0), (x1, y1) = seen[:, :2].min(axis=0), seen[:, 2:].max(axis=0)
    rows, columns = slice(y0, y1), slice(x0, x1)
    touching = np.zeros((3, 3, 3), np.bool_)
    touching[1] = True
    touching[:, 1, 1] = True
    labels, count = ndimage.label(np.stack([mask[rows, columns] for mask in masks]), structure=touching)
    counts = np.stack([np.bincount(of.ravel(), minlength=count + 1)[1:] for of in labels])
    # Label 0 is the background.
    passes = np.concatenate([[False], keeps(_Pieces(labels, counts))])
    found = []
    for each, mask, of in zip(slices, masks, labels, strict=True):
        left = np.zeros_like(mask)
        left[rows, columns] = passes[of]
        found.append(each if not (mask & ~left).any() else with_mask(each, left))
    return found


def smooth(
    slices: Sequence[SliceResult], positions: NDArray[np.float64], deviation: float, recut: Recut
) -> list[SliceResult]:
    """Average probabilities along the normal over the slices that are drawn, and cut the masks anew.

    Empty slices have no part in it: they neither receive nor give, so that no end grows or is worn away.

    Args:
        slices: of a phrase, in order, with their probabilities.
        positions: mm of each along the normal.
        deviation: mm, of the Gaussian; slices farther than three of them have no weight.
        recut: see `Recut`.
    """
    drawn = [k for k, each in enumerate(slices) if each.present and each.estimate.probability is not None]
    found = list(slices)
    for k in drawn:
        near = [j for j in drawn if abs(positions[j] - positions[k]) <= 3 * deviation]
        if len(near) < 2:
            continue
        away = (positions[near] - positions[k]) / deviation
        weights = np.exp(-(away**2) / 2)
        weights /= weights.sum()
        mean = np.zeros(slices[k].estimate.mask.shape, np.float32)
        for weight, j in zip(weights, near, strict=True):
            probability = slices[j].estimate.probability
            assert probability is not None
            mean += np.float32(weight) * probability
        mask = recut(mean)
        if mask.any():
            found[k] = with_mask(slices[k], mask, probability=mean)
    return found


def thickness_of(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """mm that each slice stands for: half of the way to its neighbours; at an end, that to the one it has."""
    if len(positions) == 1:
        return np.ones(1)
    gaps = np.diff(positions)
    padded = np.concatenate([gaps[:1], gaps, gaps[-1:]])
    return np.asarray((padded[:-1] + padded[1:]) / 2)


def with_mask(of: SliceResult, mask: BoolArray, *, probability: FloatArray | None = None) -> SliceResult:
    """A slice with another mask; pixels that are new have the mean weight of those that were there."""
    if not mask.any():
        return of.emptied()
    before = of.estimate.mask
    weights = np.full(before.shape, np.float32(of.weights.mean()) if of.weights.size else np.float32(0))
    weights[before] = of.weights
    # How far the second judge agrees is not measured again: it holds for the mask that it saw.
    agreement = of.agreement if of.region is None else dice(mask, of.region.mask)
    estimate = MaskEstimate(mask, of.estimate.iou, of.estimate.probability if probability is None else probability)
    return replace(of, estimate=estimate, weights=weights[mask], agreement=agreement)


def _between(ends: tuple[BoolArray, BoolArray], way: float) -> tuple[Prompts, Region]:
    """The two ends' boxes and masks, weighed by how near each is: `way` is 0 at the first and 1 at the other."""
    first, second = (prompts_from_region(mask, boxes="hull").boxes for mask in ends)
    before, after = ends
    expected = np.float32(1 - way) * before + np.float32(way) * after
    boxes = np.float32(1 - way) * first + np.float32(way) * second
    return Prompts(boxes=boxes.astype(np.float32)), Region(before | after, expected.astype(np.float32))

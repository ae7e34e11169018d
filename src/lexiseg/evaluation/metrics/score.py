"""All metrics of one mask in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lexiseg.evaluation.metrics.boxes import Box, boxes_iou, boxes_of_mask
from lexiseg.evaluation.metrics.overlap import Emptiness, EmptyRule, Overlap, emptiness_of, score_of_empty, worst_score
from lexiseg.evaluation.metrics.surface import SurfaceDistances, boundary, diagonal
from lexiseg.values.arrays import BoolArray


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
) -> MaskScore:
    """Dice, IoU, precision, recall, NSD, HD95 and ASSD of a mask; boundaries are measured once for all three.

    Args:
        truth: bool (H, W) or (D, H, W).
        prediction: bool, the same shape.
        spacing: mm along each axis; None measures in pixels, which the keys then say.
        tolerance: of NSD, in mm, or pixels without spacing.
        empty: the rule for empty masks.

    Raises:
        ValueError: the shapes or the spacing's length differ.
    """
    overlap = Overlap.of(truth, prediction)
    fractions: dict[str, tuple[float, float]] = {**overlap.fractions}
    emptiness = emptiness_of(truth, prediction)
    keys = surface_keys(spacing, tolerance)
    if emptiness is Emptiness.neither:
        values = {name: above / below for name, (above, below) in overlap.fractions.items()}
        distances = SurfaceDistances.of(truth, prediction, spacing)
        values[keys["nsd"]] = distances.nsd(tolerance)
        values[keys["hd95"]] = distances.hd95()
        values[keys["assd"]] = distances.assd()
        fractions[keys["nsd"]] = distances.within(tolerance)
    else:
        far = diagonal(truth.shape, spacing)
        values = {
            keys.get(name, name): score_of_empty(name, emptiness, rule=empty, diagonal=far)
            for name in (*overlap.fractions, *keys)
        }
        fractions[keys["nsd"]] = (0, int(boundary(truth).sum()) + int(boundary(prediction).sum()))
    cell = math.prod(spacing) if spacing is not None else 1.0
    return MaskScore(values, fractions, emptiness, overlap.truth * cell, overlap.prediction * cell)


def worst_mask_score(truth: BoolArray, *, spacing: Sequence[float] | None = None, tolerance: float = 2.0) -> MaskScore:
    """What a missing prediction scores: the worst value of each metric, also where the truth is empty.

    Its share in pooled values is that of an empty mask. Arguments as of `score_mask`.
    """
    nothing = score_mask(truth, truth & False, spacing=spacing, tolerance=tolerance)
    far = diagonal(truth.shape, spacing)
    values = {key: worst_score(key.rpartition("_")[0] or key, diagonal=far) for key in nothing.values}
    return MaskScore(values, nothing.fractions, nothing.emptiness, nothing.truth_size, 0.0)


def score_boxes(truth: Sequence[Box], prediction: BoolArray, *, empty: EmptyRule = EmptyRule.score) -> float:
    """Box IoU of a mask's boxes with the true ones (see `boxes_of_mask` and `boxes_iou`).

    Args:
        truth: x0 y0 x1 y1 in pixels, end-exclusive; none where the target is known to be absent.
        prediction: bool (H, W).
        empty: the rule where there is no true box or no mask.
    """
    if truth and prediction.any():
        return boxes_iou(truth, boxes_of_mask(prediction, len(truth)))
    found = bool(prediction.any())
    emptiness = Emptiness.prediction if truth else Emptiness.truth if found else Emptiness.both
    return score_of_empty("box_iou", emptiness, rule=empty, diagonal=math.nan)


def surface_keys(spacing: Sequence[float] | None, tolerance: float) -> dict[str, str]:
    """The tables' keys of the metrics of boundaries, with unit and tolerance."""
    unit = "px" if spacing is None else "mm"
    return {"nsd": f"nsd_{tolerance:g}{unit}", "hd95": f"hd95_{unit}", "assd": f"assd_{unit}"}

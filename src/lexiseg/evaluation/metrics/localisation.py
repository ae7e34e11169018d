"""Where a target is said to be: boxes of a mask, and saliency maps before any threshold or outline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.evaluation.metrics.catalogue import Emptiness, EmptyRule, score_of_empty
from lexiseg.evaluation.metrics.classification import auroc
from lexiseg.values.arrays import BoolArray
from lexiseg.values.masks import box_of

Box = tuple[float, float, float, float]


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes: area of both / area of either.

    No unit, 0 (apart) to 1 (equal). Source: as IoU, of the boxes as sets of points.

    Args:
        first: x0 y0 x1 y1, end-exclusive, in pixels.
        second: the same.
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - shared
    return shared / total if total > 0 else 0.0


def boxes_of_mask(mask: BoolArray, count: int = 1) -> tuple[Box, ...]:
    """The boxes that a mask answers with, where `count` are asked.

    One is around the whole mask, however many parts it has; several are those of its `count` largest parts
    (pixels that touch at a corner belong together), largest first.

    Args:
        mask: bool (H, W).
        count: how many boxes the truth has.

    Returns:
        At most `count` boxes x0 y0 x1 y1 in pixels, end-exclusive; none of an empty mask.
    """
    if not mask.any():
        return ()
    if count == 1:
        x0, y0, x1, y1 = box_of(mask)
        return ((float(x0), float(y0), float(x1), float(y1)),)
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    places = ndimage.find_objects(parts)
    largest = np.argsort(-sizes, kind="stable")[:count]
    return tuple(
        (float(x.start), float(y.start), float(x.stop), float(y.stop)) for y, x in (places[k] for k in largest)
    )


def boxes_iou(truth: Sequence[Box], prediction: Sequence[Box]) -> float:
    """Mean IoU of true boxes with the predicted ones, matched one to one so that it is largest.

    sum over matched pairs of IoU / number of true boxes; a true box without a partner counts 0. No unit,
    0 to 1. Source: H. W. Kuhn, Naval Research Logistics Quarterly 2 (1955) 83-97, for the matching.

    Args:
        truth: x0 y0 x1 y1 in pixels, end-exclusive; at least one.
        prediction: the same; none is 0.

    Raises:
        ValueError: no true box.
    """
    if not truth:
        raise ValueError("there is no true box; what an absent target scores is the empty rule's to say")
    from scipy.optimize import linear_sum_assignment

    overlaps = np.array([[box_iou(true, given) for given in prediction] for true in truth])
    if overlaps.size == 0:
        return 0.0
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    return float(overlaps[rows, columns].sum() / len(truth))


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


def saliency_auc(truth: BoolArray, saliency: NDArray[Any]) -> float:
    """Area under the ROC curve of the pixels: how often a pixel inside is more salient than one outside.

    See `auroc`, of pixels in place of scans. No unit; 0 to 1, 0.5 by chance. Undefined (NaN) where the truth is
    empty or full. Source: D. Bamber, J Math Psychol 12 (1975) 387-415.

    Args:
        truth: bool, any shape.
        saliency: real numbers, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _refuse_shapes(truth, saliency)
    if saliency.dtype == np.uint8:
        # Maps on disk have 256 levels: counting them takes a tenth of the time of sorting pixels.
        levels, place = np.arange(256), saliency
    else:
        levels, place = np.unique(saliency, return_inverse=True)
        place = place.reshape(saliency.shape)
    counts = [np.bincount(place[where], minlength=len(levels)) for where in (truth, ~truth)]
    inside = np.repeat([True, False], len(levels))
    return float(auroc(np.tile(levels, 2), inside, np.concatenate(counts)[None].astype(np.float64))[0])


def pointing_game(truth: BoolArray, saliency: NDArray[Any]) -> float:
    """Whether the most salient pixel lies inside: the share of the pixels at the maximum that do.

    #{p inside: s(p) = max s} / #{p: s(p) = max s}: 1 or 0, between them where the maximum is shared, as in
    maps of 8 bits. No tolerance around the truth. Undefined (NaN) where the truth is empty. Source: J. Zhang
    et al., IJCV 126 (2018) 1084-1102, who allow 15 pixels.

    Args:
        truth: bool, any shape.
        saliency: real numbers, the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _refuse_shapes(truth, saliency)
    if not truth.any():
        return math.nan
    highest = saliency == saliency.max()
    return float(np.count_nonzero(highest & truth) / np.count_nonzero(highest))


def _refuse_shapes(truth: BoolArray, saliency: NDArray[Any]) -> None:
    if truth.shape != saliency.shape:
        raise ValueError(f"the mask and the saliency have shapes {truth.shape} and {saliency.shape}, expected the same")

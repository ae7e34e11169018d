"""What is measured of one answer: overlap and surface distance of masks, overlap of boxes, and how well a
saliency map points. Every metric says its formula, unit, range and source; what an empty mask scores is said
once, in `empty.py`.
"""

from lexiseg.evaluation.metrics.boxes import box_iou, boxes_iou, boxes_of_mask
from lexiseg.evaluation.metrics.catalogue import METRICS, Metric, metric_of
from lexiseg.evaluation.metrics.empty import Emptiness, EmptyRule, emptiness_of
from lexiseg.evaluation.metrics.overlap import Overlap, dice, iou, precision, recall
from lexiseg.evaluation.metrics.saliency import pointing_game, saliency_auc
from lexiseg.evaluation.metrics.score import MaskScore, score_boxes, score_mask, worst_mask_score
from lexiseg.evaluation.metrics.surface import SurfaceDistances, assd, boundary, hd95, nsd

__all__ = [
    "METRICS",
    "Emptiness",
    "EmptyRule",
    "MaskScore",
    "Metric",
    "Overlap",
    "SurfaceDistances",
    "assd",
    "boundary",
    "box_iou",
    "boxes_iou",
    "boxes_of_mask",
    "dice",
    "emptiness_of",
    "hd95",
    "iou",
    "metric_of",
    "nsd",
    "pointing_game",
    "precision",
    "recall",
    "saliency_auc",
    "score_boxes",
    "score_mask",
    "worst_mask_score",
]

"""Regions: from a saliency map to what a segmenter is asked.

`refine` turns a saliency map into a `Region`, by the dense CRF or a threshold rule; `clean_mask` drops
small pieces and fills holes, in regions and in final masks; `prompts_from_region` draws the boxes and points.
An empty region is an absent target all the way through: it gives empty prompts, never a box around the whole
scan.
"""

from lexiseg.regions.components import Component, clean_mask, find_components
from lexiseg.regions.crf import CRFRefiner, CRFSettings, dense_crf
from lexiseg.regions.prompts import prompts_from_region
from lexiseg.regions.refiner import Refiner
from lexiseg.regions.region import Region
from lexiseg.regions.registry import REFINERS, RuleRefiner, refine
from lexiseg.regions.threshold import best_by_dice, fixed_threshold, kmeans, otsu, percentile_threshold

__all__ = [
    "REFINERS",
    "CRFRefiner",
    "CRFSettings",
    "Component",
    "Refiner",
    "Region",
    "RuleRefiner",
    "best_by_dice",
    "clean_mask",
    "dense_crf",
    "find_components",
    "fixed_threshold",
    "kmeans",
    "otsu",
    "percentile_threshold",
    "prompts_from_region",
    "refine",
]

"""One crop, asked at every point of a grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.segmenter import EncodedImage, Segmenter
from lexiseg.proposals.candidates import Candidates, join, low_cell, measure
from lexiseg.proposals.grid import Box, point_grid
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.scans.scan import FloatArray

EDGE = 20.0
"""A mask that ends within so many pixels of a crop's edge is taken for cut off, as in SAM's own generator."""
_STABILITY_SLACK = 0.1
_AREA_SLACK = 1.5
_EDGE_SLACK = 2.0


@dataclass(frozen=True, eq=False)
class View:
    """A crop of a scan and what may be in it.

    Attributes:
        crop: x0 y0 x1 y1 in scan pixels, end-exclusive.
        shape: (H, W) of the scan.
        image: the crop, encoded.
        candidates: what is not clearly out, in the order in which it was asked for.
    """

    crop: Box
    shape: tuple[int, int]
    image: EncodedImage
    candidates: Candidates


def look(
    segmenter: Segmenter,
    pixels: FloatArray,
    *,
    crop: Box,
    layer: int,
    settings: ProposalSettings,
    advance: Callable[[int], None],
) -> View:
    """Encode a crop and ask for three candidates at each point of its grid.

    Args:
        segmenter: whom to ask.
        pixels: the whole scan.
        crop: what part of it to look at.
        layer: the layer of that crop.
        settings: what is clearly out.
        advance: told how many more points have been asked.
    """
    x0, y0, x1, y1 = crop
    shape = (int(pixels.shape[0]), int(pixels.shape[1]))
    image = segmenter.encode(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    points = point_grid(image.shape, settings.points_in_layer(layer))
    batches = []
    for start in range(0, len(points), settings.points_per_batch):
        asked = points[start : start + settings.points_per_batch]
        found = _ask(segmenter, image, asked, settings)
        batches.append(found.take(_possible(found, image, crop, shape, settings)))
        advance(len(asked))
    return View(crop, shape, image, join(batches))


def _ask(
    segmenter: Segmenter, image: EncodedImage, points: FloatArray, settings: ProposalSettings
) -> Candidates:
    """The candidates for some points, measured, but for those whose estimated IoU is too low."""
    labels = np.ones((len(points), 1), np.int64)
    decoded = segmenter.decode(image, points=points[:, None], labels=labels, multimask=True)
    logits, iou = decoded.logits.flatten(0, 1), decoded.iou.flatten()
    asked = torch.from_numpy(points).to(iou.device).repeat_interleave(decoded.iou.shape[1], 0)
    if settings.pred_iou_threshold > 0:
        likely = iou > settings.pred_iou_threshold
        logits, iou, asked = logits[likely], iou[likely], asked[likely]
    return measure(logits, iou, asked, image, offset=settings.stability_offset)


def _possible(
    found: Candidates,
    image: EncodedImage,
    crop: Box,
    shape: tuple[int, int],
    settings: ProposalSettings,
) -> Tensor:
    """Which candidates are not clearly out: measured on a coarse grid, they may be off by the slack."""
    areas = found.areas * (image.shape[0] * image.shape[1] / (shape[0] * shape[1]))
    stable = found.stability >= settings.stability_threshold - _STABILITY_SLACK
    sized = (areas * _AREA_SLACK >= settings.min_area) & (areas / _AREA_SLACK <= settings.max_area)
    cell = low_cell(image, found.logits) * max(image.shape) / max(image.input_shape)
    cut = cut_off(found.boxes, crop, shape, within=max(0.0, EDGE - _EDGE_SLACK * cell))
    return (found.areas > 0) & stable & sized & ~cut


def cut_off(boxes: Tensor, crop: Box, shape: tuple[int, int], *, within: float = EDGE) -> Tensor:
    """Whether masks end near an edge of their crop that is not near the scan's own border.

    Args:
        boxes: (K, 4) in the crop's pixels.
        crop: x0 y0 x1 y1 in the scan's pixels.
        shape: (H, W) of the scan.
        within: how many pixels are near.

    Returns:
        bool (K,).
    """
    placed = boxes + boxes.new_tensor([crop[0], crop[1], crop[0], crop[1]])
    at_edge = (placed - boxes.new_tensor(crop)).abs() <= within
    at_border = (placed - boxes.new_tensor([0, 0, shape[1], shape[0]])).abs() <= within
    return (at_edge & ~at_border).any(1)

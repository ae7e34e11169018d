"""The best candidates of a crop, none like another, on the scan's grid."""

from __future__ import annotations

import numpy as np
import torch

from lexiseg.models.segmenter import Segmenter
from lexiseg.proposals.candidates import stability_score
from lexiseg.proposals.looking import View, cut_off
from lexiseg.proposals.overlaps import corners, highest_iou
from lexiseg.proposals.proposal import Proposal, box_of
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.scans.scan import BoolArray

_OVERLAP_SLACK = 0.1
_GROUP_MASKS = 8
_GROUP_PIXELS = 1 << 23


def choose(segmenter: Segmenter, view: View, settings: ProposalSettings) -> list[Proposal]:
    """Greedy box NMS by falling estimated IoU that enlarges only what it has to.

    Before each group of masks is brought to the scan's grid, candidates whose low-resolution box is clearly
    one that has been taken already are dropped; thousands that cluster on the same few regions cost nothing.
    Those that are enlarged are judged by their true stability, area and box.

    Args:
        segmenter: brings the masks to the crop's grid.
        view: the crop and its candidates.
        settings: the limits.

    Returns:
        What is left, by falling estimated IoU, of equal ones the earlier first.
    """
    candidates = view.candidates
    waiting = candidates.iou.argsort(descending=True, stable=True)
    x0, y0, x1, y1 = view.crop
    group = max(1, min(_GROUP_MASKS, _GROUP_PIXELS // ((x1 - x0) * (y1 - y0))))
    taken = candidates.boxes.new_zeros(0, 4)
    chosen: list[Proposal] = []
    while len(waiting):
        now, waiting = waiting[:group], waiting[group:]
        logits = segmenter.upsample(candidates.logits[now].float(), view.image)
        stabilities = stability_score(logits, settings.stability_offset).tolist()
        for index, mask, stability in zip(now.tolist(), (logits > 0).cpu().numpy(), stabilities, strict=True):
            if not _good(mask, stability, view, settings):
                continue
            box = corners([box_of(mask)]).to(taken.device)
            new = bool(highest_iou(box, taken) <= settings.box_nms_threshold)
            if new and not cut_off(box, view.crop, view.shape):
                taken = torch.cat([taken, box])
                chosen.append(_place(view, index, mask, stability))
        clearly = settings.box_nms_threshold + _OVERLAP_SLACK
        waiting = waiting[highest_iou(candidates.boxes[waiting], taken) <= clearly]
    return chosen


def _good(mask: BoolArray, stability: float, view: View, settings: ProposalSettings) -> bool:
    """Whether a mask of the crop is within the limits; a thin one may have no pixel on the scan's grid."""
    area = int(mask.sum())
    within = settings.min_area <= area / (view.shape[0] * view.shape[1]) <= settings.max_area
    return area > 0 and within and stability >= settings.stability_threshold


def _place(view: View, index: int, part: BoolArray, stability: float) -> Proposal:
    """A mask of the crop as a proposal of the scan."""
    x0, y0, x1, y1 = view.crop
    mask = np.zeros(view.shape, np.bool_)
    mask[y0:y1, x0:x1] = part
    x, y = view.candidates.points[index].tolist()
    return Proposal(
        mask=mask,
        box=box_of(mask),
        iou=float(view.candidates.iou[index]),
        stability=stability,
        point=(x0 + x, y0 + y),
        crop=view.crop,
    )

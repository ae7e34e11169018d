"""Every region of a scan that a segmenter can outline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lexiseg.models.batches import in_batches
from lexiseg.models.protocols import EncodedImage, MaskGrid, Segmenter
from lexiseg.proposals.candidates import (
    Box,
    Candidates,
    corners,
    crop_boxes,
    highest_iou,
    join,
    measure,
    point_grid,
    stability_score,
    suppress,
)
from lexiseg.proposals.proposal import Proposal, Proposals, clean_pieces
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import box_of

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
    boxes: FloatArray | None = None,
    where: BoolArray | None = None,
) -> View | None:
    """Encode a crop and ask for three candidates at each point of its grid, or in each of some boxes.

    Args:
        segmenter: whom to ask.
        pixels: the whole scan.
        crop: what part of it to look at.
        layer: the layer of that crop.
        settings: what is clearly out.
        advance: told how many more points have been asked.
        boxes: float32 (N, 4) in the crop's pixels, end-exclusive, in place of the grid's points.
        where: bool (H, W) of the scan, the pixels whose points are asked; all when None.

    Returns:
        The view; None where there is nothing to ask.
    """
    x0, y0, x1, y1 = crop
    shape = (int(pixels.shape[0]), int(pixels.shape[1]))
    prompts = point_grid((y1 - y0, x1 - x0), settings.points_in_layer(layer)) if boxes is None else boxes
    if where is not None:
        x, y = (prompts + np.array([x0, y0], np.float32)).astype(np.int64).T
        asked_for = where[y.clip(0, shape[0] - 1), x.clip(0, shape[1] - 1)]
        advance(int((~asked_for).sum()))
        prompts = prompts[asked_for]
    if not len(prompts):
        return None
    image = segmenter.encode(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    batches = []

    def ask(asked: Sequence[FloatArray]) -> tuple[int, Candidates]:
        found, grid = _ask(segmenter, image, np.stack(asked), settings)
        return len(asked), found.take(_possible(found, image.shape, grid, crop=crop, shape=shape, settings=settings))

    at_once = settings.points_per_batch
    for count, found in in_batches(list(prompts), at_once, ask, what="points", device=segmenter.device):
        batches.append(found)
        advance(count)
    return View(crop, shape, image, join(batches))


def _ask(
    segmenter: Segmenter, image: EncodedImage, prompts: FloatArray, settings: ProposalSettings
) -> tuple[Candidates, MaskGrid]:
    """The candidates for some points or boxes, measured, but for those whose estimated IoU is too low; their grid."""
    if prompts.shape[1] == 4:
        decoded = segmenter.decode(image, boxes=prompts, multimask=True)
        points = prompts.reshape(-1, 2, 2).mean(axis=1)
    else:
        points = prompts
        labels = np.ones((len(points), 1), np.int64)
        decoded = segmenter.decode(image, points=points[:, None], labels=labels, multimask=True)
    logits, iou = decoded.logits.flatten(0, 1), decoded.iou.flatten()
    asked = torch.from_numpy(points).to(iou.device).repeat_interleave(decoded.iou.shape[1], 0)
    if settings.pred_iou_threshold > 0:
        likely = iou > settings.pred_iou_threshold
        logits, iou, asked = logits[likely], iou[likely], asked[likely]
    grid = decoded.grid
    return measure(logits, iou, asked, shape=image.shape, grid=grid, offset=settings.stability_offset), grid


def _possible(
    found: Candidates,
    seen: tuple[int, int],
    grid: MaskGrid,
    *,
    crop: Box,
    shape: tuple[int, int],
    settings: ProposalSettings,
) -> Tensor:
    """Which candidates are not clearly out: measured on a coarse grid, they may be off by the slack."""
    areas = found.areas * (seen[0] * seen[1] / (shape[0] * shape[1]))
    stable = found.stability >= settings.stability_threshold - _STABILITY_SLACK
    sized = (areas * _AREA_SLACK >= settings.min_area) & (areas / _AREA_SLACK <= settings.max_area)
    cell = grid.cell[0] if seen[1] >= seen[0] else grid.cell[1]
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


Progress = Callable[[float], None]


def propose(
    segmenter: Segmenter,
    pixels: FloatArray,
    settings: ProposalSettings | None = None,
    *,
    progress: Progress | None = None,
    boxes: FloatArray | None = None,
    where: BoolArray | None = None,
) -> Proposals:
    """Ask a segmenter at every point of a grid, and keep the masks that are good and unlike each other.

    The steps are those of SAM's automatic mask generator (Kirillov et al., "Segment anything", ICCV 2023,
    appendix B).  For the whole scan and for each crop of it: encode once; decode three candidates for each
    point; keep those whose estimated IoU, stability and area are within limits and that the crop does not cut
    off; of two with nearly the same box, drop the one with the lower estimate.  Then the same between crops,
    where the smaller crop wins.

    What a candidate is worth is first told at the segmenter's low resolution, and what is clearly out goes
    there.  The rest is gone through by falling estimate, and only a mask that nothing better has replaced is
    brought to the scan's grid, where stability, area and box are measured again, and decide.

    Args:
        segmenter: any of the registry.
        pixels: float32 in [0, 1], (H, W) or (H, W, 3).
        settings: the published ones where None.
        progress: told the fraction done, rising to 1.
        boxes: float32 (N, 4) in the scan's pixels, end-exclusive: what is asked in place of the grid's points.
        where: bool (H, W): the grid's points in other pixels are not asked; all are when None.

    Returns:
        The proposals by falling estimated IoU; none where nothing survives.

    Raises:
        ValueError: the array has another shape.
    """
    settings = settings or ProposalSettings()
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise ValueError(f"got pixels of shape {pixels.shape}, expected (H, W) or (H, W, 3)")
    shape = (int(pixels.shape[0]), int(pixels.shape[1]))
    crops = crop_boxes(shape, layers=settings.crop_layers, overlap=settings.crop_overlap)
    if boxes is not None:
        if not len(boxes):
            return Proposals(shape)
        crops = crops[:1]
    asked = len(boxes) if boxes is not None else sum(settings.points_in_layer(layer) ** 2 for _, layer in crops)
    report = _Report(progress, asked)
    found: list[Proposal] = []
    for crop, layer in crops:
        view = look(
            segmenter, pixels, crop=crop, layer=layer, settings=settings, advance=report.advance,
            boxes=boxes, where=where,
        )  # fmt: skip
        found += choose(segmenter, view, settings) if view is not None else []
    if len(crops) > 1:
        found = _suppress_between_crops(found, settings)
    if settings.min_piece:
        found = _clean(found, settings)
    return Proposals(shape, tuple(sorted(found, key=lambda each: -each.iou)))


def _suppress_between_crops(proposals: Sequence[Proposal], settings: ProposalSettings) -> list[Proposal]:
    """Of two masks with nearly the same box the one of the smaller crop stays."""
    scores = [1 / ((x1 - x0) * (y1 - y0)) for x0, y0, x1, y1 in (each.crop for each in proposals)]
    return _suppress(proposals, scores, settings.crop_nms_threshold)


def _clean(proposals: Sequence[Proposal], settings: ProposalSettings) -> list[Proposal]:
    """Small pieces and holes removed; of masks that have become alike, one that was clean before stays."""
    cleaned, scores = [], []
    for each in proposals:
        mask = clean_pieces(each.mask, min_piece=settings.min_piece)
        if settings.min_area <= mask.mean() <= settings.max_area:
            cleaned.append(replace(each, mask=mask, box=box_of(mask)))
            scores.append(float(np.array_equal(mask, each.mask)))
    return _suppress(cleaned, scores, max(settings.box_nms_threshold, settings.crop_nms_threshold))


def _suppress(proposals: Sequence[Proposal], scores: Sequence[float], threshold: float) -> list[Proposal]:
    kept = suppress([each.box for each in proposals], scores, threshold=threshold)
    return [proposals[index] for index in kept]


class _Report:
    """Points asked so far, told as a fraction of all."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def advance(self, points: int) -> None:
        self._done += points
        if self._progress is not None:
            self._progress(self._done / self._total)

"""Every region of a scan that a segmenter can outline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lexiseg.models.segmenter import Segmenter
from lexiseg.proposals.choosing import choose
from lexiseg.proposals.grid import crop_boxes
from lexiseg.proposals.looking import look
from lexiseg.proposals.overlaps import suppress
from lexiseg.proposals.pieces import clean_pieces
from lexiseg.proposals.proposal import Proposal, Proposals, box_of
from lexiseg.proposals.settings import ProposalSettings
from lexiseg.scans.scan import FloatArray

Progress = Callable[[float], None]


def propose(
    segmenter: Segmenter,
    pixels: FloatArray,
    settings: ProposalSettings | None = None,
    *,
    progress: Progress | None = None,
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
    report = _Report(progress, sum(settings.points_in_layer(layer) ** 2 for _, layer in crops))
    found: list[Proposal] = []
    for crop, layer in crops:
        view = look(segmenter, pixels, crop=crop, layer=layer, settings=settings, advance=report.advance)
        found += choose(segmenter, view, settings)
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

"""From prompts to the final mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lexiseg.models.protocols import EncodedImage, Segmenter
from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.pipelines.results import MaskEstimate
from lexiseg.pipelines.settings import MaskSettings
from lexiseg.regions.threshold import best_by_expected_dice, clean_mask, find_components
from lexiseg.saliency.settings import PresenceSettings
from lexiseg.text.embedding import PhraseEmbedding
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, Region
from lexiseg.values.overlap import dice, soft_dice

_FEW = 2  # regions of a target, more of which are many
_SMALL = 0.8  # the segmenter's share of a target that is next to nothing, by size


@dataclass(frozen=True, eq=False)
class Query:
    """What the segmenter is asked for at once, in one window of the scan.

    Attributes:
        image: the window as the segmenter encoded it.
        window: rows and columns of the scan that it shows.
        boxes, points, labels, masks: as `Segmenter.decode` takes them, in the window's pixels.
    """

    image: EncodedImage
    window: tuple[slice, slice]
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    masks: np.ndarray | None = None


QueryViews = tuple[Query, ...]
"""The same question in several windows, whose answers are averaged."""


def settings_for(settings: MaskSettings, phrase: PhraseEmbedding) -> MaskSettings:
    """The settings as what a phrase names needs them: rings and nets, and what comes in many pieces.

    A box asks a segmenter for what fills it, so of a ring or a net the map alone tells, and its holes stay; so it does
    of what it was measured to draw better (`Calibration.map_only`).  Where the segmenter alone draws, as published, it
    still does.  Of many teeth some are less sure than others, and are teeth all the same.  A small target has small
    pieces.
    """
    settings = replace(settings, min_area=phrase.calibration.min_area(settings.min_area))
    if settings.fusion == "average" and (phrase.holes or phrase.calibration.map_only):
        settings = replace(settings, fusion="region")
    if phrase.holes:
        settings = replace(settings, fill_holes=False)
    return replace(settings, least_sure=0.0) if phrase.holes or phrase.regions > _FEW else settings


def expects_too_little(saliency: FloatArray, phrase: PhraseEmbedding, settings: PresenceSettings) -> bool:
    """Whether a calibrated map (H, W) expects less Dice of its best mask than a mask is worth."""
    if not (settings.min_expected_dice and phrase.calibration.calibrated):
        return False
    return soft_dice(saliency, best_by_expected_dice(saliency)) < settings.min_expected_dice


def encode_queries(
    segmenter: Segmenter,
    pixels: FloatArray,
    prompts: Prompts,
    settings: MaskSettings,
    *,
    like: BoolArray | None = None,
) -> list[QueryViews]:
    """Encode what the prompts ask about: the scan, or windows around each box.

    Points belong to the box that they lie in (to each such box); prompts without a box are asked as points.

    Args:
        segmenter: asked for encodings alone; one that remembers them (`CachedSegmenter`) saves equal windows.
        pixels: of the scan, (H, W) or (H, W, 3).
        prompts: not empty, in the scan's pixels.
        settings: see `MaskSettings`.
        like: a mask that the answer should be like, bool (H, W), asked beside the boxes where the segmenter reads
            masks.

    Returns:
        For each box, or once for all points, the question as each window shows it; none where the region
        itself is final.
    """
    if settings.fusion == "region":
        return []
    height, width = pixels.shape[:2]
    if not len(prompts.boxes):
        shown = segmenter.encode(pixels)
        whole = (slice(0, height), slice(0, width))
        return [(Query(shown, whole, None, prompts.points[None], prompts.labels[None]),)]
    return [
        tuple(
            _ask_in(window, segmenter, pixels, box, prompts, like=like)
            for window in _windows(box, height, width, settings)
        )
        for box in prompts.boxes
    ]


def query_windows(pixels: FloatArray, prompts: Prompts, settings: MaskSettings) -> list[FloatArray]:
    """What `encode_queries` will have encoded: views of the scan or of windows in it, repeated where it repeats."""
    if settings.fusion == "region":
        return []
    if not len(prompts.boxes):
        return [pixels]
    height, width = pixels.shape[:2]
    return [pixels[window] for box in prompts.boxes for window in _windows(box, height, width, settings)]


def _windows(box: np.ndarray, height: int, width: int, settings: MaskSettings) -> list[tuple[slice, slice]]:
    """The windows that a box is asked in, each once."""
    whole = (slice(0, height), slice(0, width))
    found = [_window(box, height, width, scale) if scale else whole for scale in settings.windows]
    return [window for k, window in enumerate(found) if window not in found[:k]]


def _ask_in(
    window: tuple[slice, slice],
    segmenter: Segmenter,
    pixels: FloatArray,
    box: np.ndarray,
    prompts: Prompts,
    *,
    like: BoolArray | None,
) -> Query:
    """A box and its points, in the window's pixels."""
    corner = np.array([window[1].start, window[0].start], np.float32)
    x0, y0, x1, y1 = box
    x, y = prompts.points[:, 0], prompts.points[:, 1]
    # a negative point may lie just outside the box: it still bounds what the box asks for
    near = ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)) | (prompts.labels == 0)
    near &= (x >= corner[0]) & (x < window[1].stop) & (y >= corner[1]) & (y < window[0].stop)
    points, labels = prompts.points[near] - corner, prompts.labels[near]
    image = segmenter.encode(pixels[window])
    return Query(
        image,
        window,
        (box - np.tile(corner, 2))[None],
        points[None] if near.any() else None,
        labels[None] if near.any() else None,
        segmenter.shrink(like[window], image)[None] if like is not None and segmenter.takes_masks else None,
    )


def _window(box: np.ndarray, height: int, width: int, crop_scale: float) -> tuple[slice, slice]:
    """The surroundings of a box; the whole scan where they are most of it anyway."""
    x0, y0, x1, y1 = (float(v) for v in box)
    # an eighth of the scan at least: of fewer pixels an encoder makes out nothing
    half = max(crop_scale * max(x1 - x0, y1 - y0), max(height, width) / 8) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    rows = slice(max(0, int(cy - half)), min(height, math.ceil(cy + half)))
    columns = slice(max(0, int(cx - half)), min(width, math.ceil(cx + half)))
    seen = (rows.stop - rows.start) * (columns.stop - columns.start)
    return (rows, columns) if seen < 0.7 * height * width else (slice(0, height), slice(0, width))


def segment_queries(
    segmenter: Segmenter, queries: Sequence[QueryViews], region: Region, settings: MaskSettings
) -> MaskEstimate:
    """The final mask of one phrase in one image: the union of the answers.

    Args:
        segmenter: that encoded the queries.
        queries: of `encode_queries`.
        region: the refined region, which picks between candidates.
        settings: see `MaskSettings`.
    """
    return segment_best(segmenter, [(queries, region.mask)], region, settings)[1]


def segment_best(
    segmenter: Segmenter,
    choices: Sequence[tuple[Sequence[QueryViews], BoolArray]],
    region: Region,
    settings: MaskSettings,
) -> tuple[int, MaskEstimate]:
    """The final mask by the prompts whose answers are best: as the segmenter rates them, and as the map does.

    Each set of prompts comes from a cut of the map. Its worth is the segmenter's predicted IoU times the
    Dice of what it drew with that cut: a good outline of something else does not win.

    Args:
        segmenter: that encoded the queries.
        choices: for each set of prompts its queries and the cut it is from, bool (H, W); at least one.
        region: the refined region.
        settings: see `MaskSettings`.

    Returns:
        Which of the choices it was, the first of equal ones, and what was drawn with it.
    """
    if settings.fusion == "region":
        cut = region.mask if settings.binarize == "half" else best_by_expected_dice(region.probability)
        return 0, MaskEstimate(_clean(cut, region.probability, settings), 1.0, region.probability)
    if isinstance(segmenter, CachedSegmenter):
        asked = [query for queries, _ in choices for views in queries for query in views]
        plain = [
            (each.image, each.boxes)
            for each in asked
            if each.boxes is not None and each.points is None and each.masks is None
        ]
        segmenter.decode_boxes(plain, multimask=settings.multimask)
    outlines = [_outline(segmenter, queries, region, settings) for queries, _ in choices]
    worth = [
        iou * dice(probability > 0.5, of, empty=0.0)
        for (probability, iou), (_, of) in zip(outlines, choices, strict=True)
    ]
    best = worth.index(max(worth))
    probability, iou = outlines[best]
    if settings.fusion == "average":
        share = np.float32(_share(region.mask, settings))
        probability = share * probability + (1 - share) * region.probability
    return best, MaskEstimate(clean_answer(probability, settings), iou, probability)


def clean_answer(probability: FloatArray, settings: MaskSettings) -> BoolArray:
    """The mask that the settings cut from a probability."""
    mask = best_by_expected_dice(probability) if settings.binarize == "expected-dice" else probability > 0.5
    return _clean(mask, probability, settings)


def _outline(
    segmenter: Segmenter, queries: Sequence[QueryViews], region: Region, settings: MaskSettings
) -> tuple[FloatArray, float]:
    """The segmenter's probability, the highest of all answers, with their IoU, weighed by what each drew."""
    drawn: FloatArray = np.zeros(region.mask.shape, np.float32)
    estimates, sizes = [], []
    for views in queries:
        answers = [(_answer(segmenter, asked, region, settings), asked.window) for asked in views]
        probability = _mean_of_views(answers, region.mask.shape)
        drawn = np.maximum(drawn, probability)
        estimates.append(float(np.mean([iou for (_, iou), _ in answers])))
        sizes.append(int((probability > 0.5).sum()))
    return drawn, float(np.average(estimates, weights=sizes)) if sum(sizes) else 0.0


def _mean_of_views(
    answers: Sequence[tuple[tuple[FloatArray, float], tuple[slice, slice]]], shape: tuple[int, ...]
) -> FloatArray:
    """Each pixel's mean probability over the windows that show it, weighted by their ratings."""
    total, weights = (np.zeros(shape, np.float32) for _ in range(2))
    for (probability, iou), window in answers:
        weight = np.float32(max(iou, 1e-6))
        total[window] += weight * probability
        weights[window] += weight
    mean: FloatArray = np.divide(total, weights, out=np.zeros_like(total), where=weights > 0)
    return mean


def _answer(segmenter: Segmenter, asked: Query, region: Region, settings: MaskSettings) -> tuple[FloatArray, float]:
    """The probability in the window, of the candidate that fits the region best, and its estimated IoU."""
    decoded = segmenter.decode(
        asked.image,
        boxes=asked.boxes,
        points=asked.points,
        labels=asked.labels,
        masks=asked.masks,
        multimask=settings.multimask,
    )
    candidates = segmenter.upsample(decoded.logits[0], asked.image).sigmoid().float().cpu().numpy()
    overlaps = [dice(candidate > 0.5, region.mask[asked.window], empty=0.0) for candidate in candidates]
    best = int(np.argmax(overlaps)) if len(candidates) > 1 else 0
    return candidates[best], float(decoded.iou[0, best])


def _share(region: BoolArray, settings: MaskSettings) -> float:
    """The segmenter's share of the average."""
    if not isinstance(settings.segmenter_weight, str):
        return settings.segmenter_weight
    pieces = find_components(region, keep="largest")
    x0, y0, x1, y1 = pieces[0].box if pieces else (0, 0, 0, 0)
    return _SMALL * (1 - float(max((x1 - x0) / region.shape[1], (y1 - y0) / region.shape[0])))


def _clean(mask: BoolArray, probability: FloatArray, settings: MaskSettings) -> BoolArray:
    return clean_mask(
        mask,
        probability,
        min_area=settings.min_area,
        fill_holes=settings.fill_holes,
        least_sure=settings.least_sure,
    )

"""From prompts to the final mask: the part that MedCLIP-SAM and SaLIP share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.models.protocols import EncodedImage, Segmenter
from lexiseg.regions.components import clean_mask, find_components
from lexiseg.regions.region import Region
from lexiseg.regions.threshold import best_by_dice
from lexiseg.values.scan import BoolArray, FloatArray, Prompts

_SMALL = 0.8  # the segmenter's share of a target that is next to nothing, by size


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How prompts become the final mask.

    Attributes:
        final: "segmenter" for the segmenter's outline; "region" for the refined region as it is; "average"
            where the weighted mean of the segmenter's and the region's probability is high enough, which
            helps where both err in their own ways (a region that keeps its saliency as probability, as the
            rule "threshold" does, has most to add).
        segmenter_weight: the segmenter's share of that mean, 0 to 1; or "by-size": four fifths for the
            smallest targets, less for larger ones, by the longer side of the region's largest piece as a
            fraction of the scan's. A saliency map has so many positions a scan, so that it knows the outline
            of a large target better than that of a small one.
        cut: "half" for what is more likely than not, pixel by pixel; "dice" for the mask that promises the
            highest Dice (`best_by_dice`), which is wider where the probability is unsure of itself, as it is
            on scans unlike those that the models know.
        closer: a box is shown to the segmenter in a window of this many times its longer side, encoded by
            itself, where that leaves out enough of the scan; 0 shows the whole scan. A small target fills few
            of the segmenter's pixels otherwise; around a box that lies beside it, the whole scan shows it at
            least. Of several windows the mean counts, weighted by how the segmenter rates its mask in each.
        multimask: three candidates for each prompt, of which the one is taken that overlaps the region most
            (by Dice); else the segmenter's single answer.
        min_area: pieces smaller than this fraction of the scan are dropped.
        fill_holes: whether holes are filled.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    final: str = "segmenter"
    segmenter_weight: float | str = 0.5
    cut: str = "half"
    closer: float | tuple[float, ...] = 0.0
    multimask: bool = False
    min_area: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        if self.final not in ("segmenter", "region", "average"):
            raise UsageError(f"mask: final is {self.final!r}; expected segmenter, region or average")
        for name in ("multimask", "fill_holes"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"mask: {name} is {getattr(self, name)!r}; expected true or false")
        weight = self.segmenter_weight
        if weight != "by-size" if isinstance(weight, str) else not 0 <= weight <= 1:
            raise UsageError(f"mask: segmenter_weight is {weight}; expected a share, 0 to 1, or by-size")
        if self.cut not in ("half", "dice"):
            raise UsageError(f"mask: cut is {self.cut!r}; expected half or dice")
        if not 0 <= self.min_area <= 1:
            raise UsageError(f"mask: min_area is {self.min_area}; expected a fraction of the scan, 0 to 1")
        if not self.windows or not all(isinstance(c, (int, float)) and (c == 0 or 1 <= c <= 100) for c in self.windows):
            raise UsageError(
                f"mask: closer is {self.closer}; expected 0, or the window's side in boxes, 1 to 100, or "
                "several of them"
            )

    @property
    def windows(self) -> tuple[float, ...]:
        """`closer`, as many as there are."""
        return tuple(self.closer) if isinstance(self.closer, (list, tuple)) else (self.closer,)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A final mask, bool (H, W), with the segmenter's estimate of its IoU (1 where it was not asked)."""

    mask: BoolArray
    iou: float

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> Drawn:
        """An empty mask."""
        return cls(np.zeros(shape, np.bool_), 1.0)


@dataclass(frozen=True, eq=False)
class Question:
    """What the segmenter is asked for at once, in one window of the scan.

    Attributes:
        image: the window as the segmenter encoded it.
        window: rows and columns of the scan that it shows.
        boxes, points, labels: as `Segmenter.decode` takes them, in the window's pixels.
    """

    image: EncodedImage
    window: tuple[slice, slice]
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    labels: np.ndarray | None = None


Views = tuple[Question, ...]
"""The same question in several windows, whose answers are averaged."""


def questions_of(segmenter: Segmenter, pixels: FloatArray, prompts: Prompts, settings: MaskSettings) -> list[Views]:
    """Encode what the prompts ask about: the scan, or windows around each box.

    Points belong to the box that they lie in (to each such box); prompts without a box are asked as points.

    Args:
        segmenter: asked for encodings alone; one that remembers them (`AskOnce`) saves equal windows.
        pixels: of the scan, (H, W) or (H, W, 3).
        prompts: not empty, in the scan's pixels.
        settings: see `MaskSettings`.

    Returns:
        For each box, or once for all points, the question as each window shows it; none where the region
        itself is final.
    """
    if settings.final == "region":
        return []
    height, width = pixels.shape[:2]
    whole = (slice(0, height), slice(0, width))
    if not len(prompts.boxes):
        shown = segmenter.encode(pixels)
        return [(Question(shown, whole, None, prompts.points[None], prompts.labels[None]),)]
    asked = []
    for box in prompts.boxes:
        windows = [_window(box, height, width, closer) if closer else whole for closer in settings.windows]
        different = [window for k, window in enumerate(windows) if window not in windows[:k]]
        asked.append(tuple(_ask_in(window, segmenter, pixels, box, prompts) for window in different))
    return asked


def _ask_in(
    window: tuple[slice, slice], segmenter: Segmenter, pixels: FloatArray, box: np.ndarray, prompts: Prompts
) -> Question:
    """A box and its points, in the window's pixels."""
    corner = np.array([window[1].start, window[0].start], np.float32)
    x0, y0, x1, y1 = box
    x, y = prompts.points[:, 0], prompts.points[:, 1]
    # a negative point may lie just outside the box: it still bounds what the box asks for
    near = ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)) | (prompts.labels == 0)
    near &= (x >= corner[0]) & (x < window[1].stop) & (y >= corner[1]) & (y < window[0].stop)
    points, labels = prompts.points[near] - corner, prompts.labels[near]
    return Question(
        segmenter.encode(np.ascontiguousarray(pixels[window])),
        window,
        (box - np.tile(corner, 2))[None],
        points[None] if near.any() else None,
        labels[None] if near.any() else None,
    )


def _window(box: np.ndarray, height: int, width: int, closer: float) -> tuple[slice, slice]:
    """The surroundings of a box; the whole scan where they are most of it anyway."""
    x0, y0, x1, y1 = (float(v) for v in box)
    # an eighth of the scan at least: of fewer pixels an encoder makes out nothing
    half = max(closer * max(x1 - x0, y1 - y0), max(height, width) / 8) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    rows = slice(max(0, int(cy - half)), min(height, math.ceil(cy + half)))
    columns = slice(max(0, int(cx - half)), min(width, math.ceil(cx + half)))
    seen = (rows.stop - rows.start) * (columns.stop - columns.start)
    return (rows, columns) if seen < 0.7 * height * width else (slice(0, height), slice(0, width))


def draw(segmenter: Segmenter, questions: Sequence[Views], region: Region, settings: MaskSettings) -> Drawn:
    """The final mask of one phrase in one image: the union of the answers.

    Args:
        segmenter: that encoded the questions.
        questions: of `questions_of`.
        region: the refined region, which picks between candidates.
        settings: see `MaskSettings`.
    """
    return draw_best(segmenter, [(questions, region.mask)], region, settings)[1]


def draw_best(
    segmenter: Segmenter,
    choices: Sequence[tuple[Sequence[Views], BoolArray]],
    region: Region,
    settings: MaskSettings,
) -> tuple[int, Drawn]:
    """The final mask by the prompts whose answers are best: as the segmenter rates them, and as the map does.

    Each set of prompts comes from a cut of the map. Its worth is the segmenter's predicted IoU times the
    Dice of what it drew with that cut: a good outline of something else does not win.

    Args:
        segmenter: that encoded the questions.
        choices: for each set of prompts its questions and the cut it is from, bool (H, W); at least one.
        region: the refined region.
        settings: see `MaskSettings`.

    Returns:
        Which of the choices it was, the first of equal ones, and what was drawn with it.
    """
    if settings.final == "region":
        return 0, Drawn(_clean(region.mask, settings), 1.0)
    outlines = [_outline(segmenter, questions, region, settings) for questions, _ in choices]
    worth = [
        iou * _overlap(probability > 0.5, of) for (probability, iou), (_, of) in zip(outlines, choices, strict=True)
    ]
    best = worth.index(max(worth))
    probability, iou = outlines[best]
    if settings.final == "average":
        share = np.float32(_share(region.mask, settings))
        probability = share * probability + (1 - share) * region.probability
    mask = best_by_dice(probability) if settings.cut == "dice" else probability > 0.5
    return best, Drawn(_clean(mask, settings), iou)


def _outline(
    segmenter: Segmenter, questions: Sequence[Views], region: Region, settings: MaskSettings
) -> tuple[FloatArray, float]:
    """The segmenter's probability, the highest of all answers, with their IoU, weighed by what each drew."""
    drawn: FloatArray = np.zeros(region.mask.shape, np.float32)
    estimates, sizes = [], []
    for views in questions:
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


def _answer(segmenter: Segmenter, asked: Question, region: Region, settings: MaskSettings) -> tuple[FloatArray, float]:
    """The probability in the window, of the candidate that fits the region best, and its estimated IoU."""
    decoded = segmenter.decode(
        asked.image, boxes=asked.boxes, points=asked.points, labels=asked.labels, multimask=settings.multimask
    )
    candidates = segmenter.upsample(decoded.logits[0], asked.image).sigmoid().float().cpu().numpy()
    overlaps = [_overlap(candidate > 0.5, region.mask[asked.window]) for candidate in candidates]
    best = int(np.argmax(overlaps)) if len(candidates) > 1 else 0
    return candidates[best], float(decoded.iou[0, best])


def _share(region: BoolArray, settings: MaskSettings) -> float:
    """The segmenter's share of the average."""
    if not isinstance(settings.segmenter_weight, str):
        return settings.segmenter_weight
    pieces = find_components(region, keep="largest")
    x0, y0, x1, y1 = pieces[0].box if pieces else (0, 0, 0, 0)
    return _SMALL * (1 - float(max((x1 - x0) / region.shape[1], (y1 - y0) / region.shape[0])))


def _overlap(candidate: BoolArray, region: BoolArray) -> float:
    return 2 * float((candidate & region).sum()) / max(1.0, float(candidate.sum() + region.sum()))


def _clean(mask: BoolArray, settings: MaskSettings) -> BoolArray:
    return clean_mask(mask, min_area=settings.min_area, fill_holes=settings.fill_holes)

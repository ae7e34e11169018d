"""Masks of a plane: what a segmenter answers to prompts, and what a person paints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lexiseg.pipelines.cache import CachedSegmenter
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.masks import Prompts, box_of

_SAMPLED = 8
_MUCH = 0.05
"""The share of a mask above which a point is taken to mean less (docs/lab/performance.md)."""


def draw_prompts(segmenter: CachedSegmenter, pixels: FloatArray, prompts: Prompts) -> BoolArray:
    """A plane's mask by boxes and points: the union of what each box, and the points beside all boxes, ask for.

    Points inside a box belong to it, and points that say "outside" to all. A single prompt that is ambiguous (a
    point alone) is answered by the best rated of three candidates.

    Args:
        segmenter: encodes the plane once.
        pixels: float32 (h, w) or (h, w, 3) in [0, 1].
        prompts: of the plane.

    Returns:
        bool (h, w).
    """
    mask = np.zeros(pixels.shape[:2], np.bool_)
    questions = _questions(prompts)
    for question in questions:
        alone = len(questions) == 1 and question[0] is None and len(question[1]) == 1
        mask |= _answers(segmenter, pixels, question, several=alone)[0]
    return mask


def draw_candidates(segmenter: CachedSegmenter, pixels: FloatArray, prompts: Prompts) -> BoolArray:
    """Three masks of a plane that the prompts may mean, best rated first: the last question's answers differ.

    Args:
        segmenter: encodes the plane once.
        pixels: float32 (h, w) or (h, w, 3) in [0, 1].
        prompts: of the plane; the newest point, or else the newest box, says which question is the last.

    Returns:
        bool (3, h, w); (0, h, w) where nothing is asked.
    """
    questions = _questions(prompts)
    if not questions:
        return np.zeros((0, *pixels.shape[:2]), np.bool_)
    newest = _newest(questions, prompts)
    others = np.zeros(pixels.shape[:2], np.bool_)
    for k, question in enumerate(questions):
        if k != newest:
            others |= _answers(segmenter, pixels, question, several=False)[0]
    return _answers(segmenter, pixels, questions[newest], several=True) | others


_Question = tuple[FloatArray | None, FloatArray, np.ndarray]


def _answers(segmenter: CachedSegmenter, pixels: FloatArray, question: _Question, *, several: bool) -> BoolArray:
    """One mask, or three, best rated first: bool (n, h, w)."""
    box, points, labels = question
    image = segmenter.encode(pixels)
    decoded = segmenter.decode(
        image,
        boxes=None if box is None else box[None],
        points=points[None] if len(points) else None,
        labels=labels[None] if len(points) else None,
        multimask=several,
    )
    offered = (segmenter.upsample(decoded.logits[0], image) > 0).cpu().numpy()
    order = np.argsort(-decoded.iou[0].cpu().numpy(), kind="stable")
    best: BoolArray = offered[order]
    return best


def _questions(prompts: Prompts) -> list[_Question]:
    """Boxes with their points, then the positive points that lie in none of them."""
    points, labels = prompts.points, prompts.labels
    outside = labels == 0
    taken = np.zeros(len(points), np.bool_)
    found: list[_Question] = []
    for box in prompts.boxes:
        within = _within(points, box)
        taken |= within & ~outside
        chosen = within | outside
        found.append((box, points[chosen], labels[chosen]))
    loose = ~taken & ~outside
    if loose.any():
        chosen = loose | outside
        found.append((None, points[chosen], labels[chosen]))
    return found


def _newest(questions: Sequence[_Question], prompts: Prompts) -> int:
    inside = prompts.points[prompts.labels == 1]
    if len(inside):
        for k, (box, _, _) in enumerate(questions):
            if box is None or _within(inside[-1:], box)[0]:
                return k
    return max(k for k, (box, _, _) in enumerate(questions) if box is not None) if len(prompts.boxes) else 0


def _within(points: FloatArray, box: FloatArray) -> BoolArray:
    x0, y0, x1, y1 = box
    found: BoolArray = (points[:, 0] >= x0) & (points[:, 0] < x1) & (points[:, 1] >= y0) & (points[:, 1] < y1)
    return found


def correct(
    segmenter: CachedSegmenter,
    pixels: FloatArray,
    current: BoolArray,
    prompts: Prompts,
    points: FloatArray,
    *,
    inside: bool,
) -> BoolArray:
    """A plane's mask after points: each adds, or takes away, the piece under it that the segmenter sees otherwise.

    So a point that says "inside" never takes anything away, one that says "outside" never adds, and what was painted
    or found elsewhere stands. Where the answer to all prompts does not follow a point inside, the point is asked
    alone; where a piece is large beside the mask that it joins or leaves, the segmenter looks closer, and the smaller
    piece counts, near the point alone where that is large too. Where no answer follows the point, a small disc around
    it does.

    Args:
        segmenter: encodes the plane once.
        pixels: float32 (h, w) or (h, w, 3) in [0, 1].
        current: bool (h, w), the mask as it is.
        prompts: of the plane, the new points among them.
        points: (n, 2), x y of the new points.
        inside: whether they say "inside".
    """
    drawn = draw_prompts(segmenter, pixels, prompts)
    mask = current.copy()
    for point in points:
        x, y = (int(value) for value in np.floor(point))
        if mask[y, x] == inside:
            continue
        piece = _touching(drawn & ~mask if inside else mask & ~drawn, x, y)
        if inside and not piece.any():
            alone = Prompts(points=point[None].astype(np.float32), labels=np.ones(1, np.int64))
            piece = _touching(draw_prompts(segmenter, pixels, alone) & ~mask, x, y)
        if piece.sum() > _MUCH * mask.sum() and (not inside or _beside(piece, mask)):
            found = _closer(segmenter, pixels, mask, prompts, point)
            closer = _touching(found & ~mask if inside else mask & ~found, x, y)
            piece = closer if 0 < closer.sum() < piece.sum() else piece
            if piece.sum() > _MUCH * mask.sum():
                piece = _touching(piece & _around(mask, x, y), x, y)
        if not piece.any():
            piece = disc(mask.shape, np.array([[x + 0.5, y + 0.5]]), max(1.0, min(mask.shape) / 128))
        mask = mask | piece if inside else mask & ~piece
    return mask


def _closer(
    segmenter: CachedSegmenter, pixels: FloatArray, mask: BoolArray, prompts: Prompts, point: FloatArray
) -> BoolArray:
    """A mask drawn anew in the half of the plane around a point; the rest as it is."""
    height, width = mask.shape
    x, y = (float(value) for value in point)
    half = max(height, width) / 4
    x0, y0, x1, y1 = int(max(0, x - half)), int(max(0, y - half)), int(min(width, x + half)), int(min(height, y + half))
    # Of a point beside the mask the piece is what lies nearest in the window, grown to the point.
    here = _touching(mask, int(x), int(y)) if mask[int(y), int(x)] else mask
    left, top, right, bottom = box_of(here[y0:y1, x0:x1])
    if right == left:
        left, top, right, bottom = int(x) - x0, int(y) - y0, int(x) - x0 + 1, int(y) - y0 + 1
    box = np.array(
        [min(left, x - x0 - 1), min(top, y - y0 - 1), max(right, x - x0 + 1), max(bottom, y - y0 + 1)], np.float32
    )
    corner = np.array([x0, y0], np.float32)
    near = _within(prompts.points, np.array([x0, y0, x1, y1], np.float32))
    shown = Prompts(box[None], prompts.points[near] - corner, prompts.labels[near])
    found = mask.copy()
    found[y0:y1, x0:x1] = draw_prompts(segmenter, np.ascontiguousarray(pixels[y0:y1, x0:x1]), shown)
    return found


def _around(mask: BoolArray, x: int, y: int) -> BoolArray:
    """What lies within four times a pixel's distance from the border of a mask, and a little more of a thin rim."""
    other = mask if not mask[y, x] else ~mask
    rows, columns = np.nonzero(other)
    far = 4 * np.sqrt(((rows - y) ** 2 + (columns - x) ** 2).min()) if len(rows) else np.inf
    down, right = np.ogrid[: mask.shape[0], : mask.shape[1]]
    found: BoolArray = (down - y) ** 2 + (right - x) ** 2 <= max(far, min(mask.shape) / 32) ** 2
    return found


def _beside(piece: BoolArray, mask: BoolArray) -> bool:
    """Whether a piece touches a mask; what does not is a thing of its own, such as the other lung."""
    return bool((ndimage.binary_dilation(piece) & mask).any())


def _touching(mask: BoolArray, x: int, y: int) -> BoolArray:
    """The connected piece under a pixel; empty where there is none."""
    numbered, _ = ndimage.label(mask)
    found: BoolArray = (numbered == numbered[y, x]) & (numbered[y, x] > 0)
    return found


def disc(shape: tuple[int, ...], points: FloatArray, radius: float) -> BoolArray:
    """A brush's stroke: the pixels whose centre is within a radius of a line through points.

    Args:
        shape: (h, w) of the plane.
        points: (n, 2) x y, a pixel's centre at +0.5; n is at least 1.
        radius: in pixels; the pixel under each point always belongs to the stroke.
    """
    height, width = shape[:2]
    mask = np.zeros((height, width), np.bool_)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        low, high = np.minimum(start, end) - radius - 1, np.maximum(start, end) + radius + 1
        x0, y0 = (max(0, int(np.floor(edge))) for edge in low)
        x1, y1 = min(width, int(np.ceil(high[0]))), min(height, int(np.ceil(high[1])))
        if x1 <= x0 or y1 <= y0:
            continue
        y, x = np.mgrid[y0:y1, x0:x1] + 0.5
        along = end - start
        length = float(along @ along)
        share = 0.0 if length == 0 else np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
        far = (x - start[0] - share * along[0]) ** 2 + (y - start[1] - share * along[1]) ** 2
        mask[y0:y1, x0:x1] |= far <= radius * radius
    for x, y in np.floor(points).astype(int):
        if 0 <= x < width and 0 <= y < height:
            mask[y, x] = True
    return mask


def sampled(points: FloatArray, most: int = _SAMPLED) -> FloatArray:
    """Points of a scribble, evenly along it: at most `most`, each once."""
    steps = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    wanted = np.linspace(0, steps[-1], min(most, len(points)))
    picked = np.unique(np.searchsorted(steps, wanted - 1e-6).clip(0, len(points) - 1))
    found: FloatArray = points[picked].astype(np.float32)
    return found


def filled(mask: BoolArray) -> BoolArray:
    """A mask (h, w) without holes."""
    found: BoolArray = ndimage.binary_fill_holes(mask)
    return found


def piece_at(mask: BoolArray, x: float, y: float) -> BoolArray:
    """The connected piece (edges and corners touch) under a point; empty where there is none."""
    numbered, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    here = numbered[int(y), int(x)]
    found: BoolArray = (numbered == here) & (here > 0)
    return found

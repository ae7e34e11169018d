"""From prompts to the final mask: the part that MedCLIP-SAM and SaLIP share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.models.segmenter import EncodedImage, Segmenter
from lexiseg.regions import Region, clean_mask
from lexiseg.scans import BoolArray, FloatArray, Prompts


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How prompts become the final mask.

    Attributes:
        final: "segmenter" for the segmenter's outline; "region" for the refined region as it is; "average"
            where the weighted mean of the segmenter's and the region's probability is above one half, which
            helps where both err in their own ways (a region that keeps its saliency as probability, as the
            rule "threshold" does, has most to add).
        segmenter_weight: the segmenter's share of that mean, 0 to 1; only for `final: average`.
        multimask: three candidates for each prompt, of which the one is taken that overlaps the region most
            (by Dice); else the segmenter's single answer.
        min_area: pieces smaller than this fraction of the scan are dropped.
        fill_holes: whether holes are filled.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    final: str = "segmenter"
    segmenter_weight: float = 0.5
    multimask: bool = False
    min_area: float = 0.0
    fill_holes: bool = False

    def __post_init__(self) -> None:
        if self.final not in ("segmenter", "region", "average"):
            raise UsageError(f"mask: final is {self.final!r}; expected segmenter, region or average")
        for name in ("multimask", "fill_holes"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"mask: {name} is {getattr(self, name)!r}; expected true or false")
        for name, what in (("segmenter_weight", "a share"), ("min_area", "a fraction of the scan")):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"mask: {name} is {getattr(self, name)}; expected {what}, 0 to 1")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A final mask, bool (H, W), with the segmenter's estimate of its IoU (1 where it was not asked)."""

    mask: BoolArray
    iou: float

    @classmethod
    def nothing(cls, shape: tuple[int, ...]) -> Drawn:
        """An empty mask."""
        return cls(np.zeros(shape, np.bool_), 1.0)


def draw(
    segmenter: Segmenter,
    encoded: EncodedImage | None,
    prompts: Prompts,
    region: Region,
    settings: MaskSettings,
) -> Drawn:
    """The final mask of one phrase in one image: the union of the masks of its boxes.

    Points belong to the box that they lie in (to each such box); prompts without a box are asked as points.

    Args:
        segmenter: asked unless the region itself is final.
        encoded: the image as `segmenter` encoded it; None where the region itself is final.
        prompts: not empty.
        region: the refined region, which picks between candidates.
        settings: see `MaskSettings`.
    """
    if settings.final == "region" or encoded is None:
        return Drawn(_clean(region.mask, settings), 1.0)
    drawn: FloatArray = np.zeros(region.mask.shape, np.float32)
    estimates, sizes = [], []
    for boxes, points, labels in _questions(prompts):
        decoded = segmenter.decode(
            encoded, boxes=boxes, points=points, labels=labels, multimask=settings.multimask
        )
        candidates = segmenter.upsample(decoded.logits[0], encoded).sigmoid().float().cpu().numpy()
        overlaps = [_overlap(candidate > 0.5, region.mask) for candidate in candidates]
        best = int(np.argmax(overlaps)) if len(candidates) > 1 else 0
        drawn = np.maximum(drawn, candidates[best])
        estimates.append(float(decoded.iou[0, best]))
        sizes.append(int((candidates[best] > 0.5).sum()))
    iou = float(np.average(estimates, weights=sizes)) if sum(sizes) else 0.0
    if settings.final == "average":
        share = np.float32(settings.segmenter_weight)
        drawn = share * drawn + (1 - share) * region.probability
    return Drawn(_clean(drawn > 0.5, settings), iou)


def _questions(
    prompts: Prompts,
) -> list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]]:
    if not len(prompts.boxes):
        return [(None, prompts.points[None], prompts.labels[None])]
    asked: list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]] = []
    for box in prompts.boxes:
        x0, y0, x1, y1 = box
        x, y = prompts.points[:, 0], prompts.points[:, 1]
        # a negative point may lie just outside the box: it still bounds what the box asks for
        near = ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)) | (prompts.labels == 0)
        if near.any():
            asked.append((box[None], prompts.points[near][None], prompts.labels[near][None]))
        else:
            asked.append((box[None], None, None))
    return asked


def _overlap(candidate: BoolArray, region: BoolArray) -> float:
    return 2 * float((candidate & region).sum()) / max(1.0, float(candidate.sum() + region.sum()))


def _clean(mask: BoolArray, settings: MaskSettings) -> BoolArray:
    return clean_mask(mask, min_area=settings.min_area, fill_holes=settings.fill_holes)

"""How proposals are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from lexiseg.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ProposalSettings:
    """Settings of `propose`; the defaults are those published with SAM's automatic mask generator.

    Whatever is an area here is a fraction of the scan, so that it means the same for every scan size.

    Attributes:
        points_per_side: the grid asks this many points along each side of the scan.
        points_per_batch: points decoded in one call; bounds the memory, changes nothing else.
        pred_iou_threshold: a mask is kept whose estimated IoU is above this.
        stability_threshold: a mask is kept whose stability is at least this.
        stability_offset: by how much the logits' threshold is raised and lowered to measure stability.
        box_nms_threshold: of two masks of one crop whose boxes' IoU is above this, the one with the lower
            estimated IoU is dropped; 1 keeps all.
        crop_layers: the scan is looked at again in crops: layer i has 2^i by 2^i of them, from layer 1 to
            this one; 0 looks at the whole scan only.
        crop_nms_threshold: the same for masks of different crops, where the smaller crop's mask stays.
        crop_overlap: by how much the first layer's crops overlap, as a fraction of the scan's shorter side;
            in layer i it is divided by 2^(i - 1).
        crop_points_downscale: in layer i points_per_side is divided by this to the power i.
        min_area: masks smaller than this fraction of the scan are dropped.
        max_area: masks larger than this fraction of the scan are dropped.
        min_piece: pieces of a mask and holes in it that are smaller than this fraction of the scan are
            removed; 0 leaves the masks as they are.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_threshold: float = 0.88
    stability_threshold: float = 0.95
    stability_offset: float = 1.0
    box_nms_threshold: float = 0.7
    crop_layers: int = 0
    crop_nms_threshold: float = 0.7
    crop_overlap: float = 512 / 1500
    crop_points_downscale: int = 1
    min_area: float = 0.0
    max_area: float = 1.0
    min_piece: float = 0.0

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"proposal setting {name} is {value!r}, expected a whole number, {least} or more")
        for name in _FRACTIONS:
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise UsageError(f"proposal setting {name} is {value!r}, expected a number from 0 to 1")
        offset = self.stability_offset
        if not _is_number(offset) or not 0 <= offset < math.inf:
            raise UsageError(f"proposal setting stability_offset is {offset!r}, expected a number, 0 or more")
        if self.crop_layers > _MAX_LAYERS:
            raise UsageError(f"proposal setting crop_layers is {self.crop_layers}, expected 0 to {_MAX_LAYERS}")
        if self.max_area <= self.min_area:
            raise UsageError(
                f"proposal setting max_area is {self.max_area}, expected more than min_area, {self.min_area}"
            )

    def points_in_layer(self, layer: int) -> int:
        """Points along each side of a crop of a layer, at least one."""
        return max(1, self.points_per_side // int(self.crop_points_downscale**layer))


_WHOLE = {"points_per_side": 1, "points_per_batch": 1, "crop_layers": 0, "crop_points_downscale": 1}
_FRACTIONS = (
    "pred_iou_threshold",
    "stability_threshold",
    "box_nms_threshold",
    "crop_nms_threshold",
    "crop_overlap",
    "min_area",
    "max_area",
    "min_piece",
)
_MAX_LAYERS = 4  # 341 crops: a typing error above that would run for days


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

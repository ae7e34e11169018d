"""How proposals are made, shown to an encoder and retrieved; nothing here needs torch."""

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
        map_levels: where a saliency map is cut for boxes, which are asked in place of the grid's points: a box for
            each piece of the map at each of these values, as MobileSAMv2 (Zhang et al., arXiv 2312.09579) asks the
            boxes of a detector; none asks the grid.
        map_near: points of the grid are asked where some phrase's saliency map is at least this high within half a step
            of them, and nowhere else, so that what is proposed depends on what is asked; 0 asks all, phrases or none.
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
    map_levels: float | tuple[float, ...] = ()
    map_near: float = 0.0

    def __post_init__(self) -> None:
        if not all(_is_number(each) and 0 < each < 1 for each in self.cuts):
            raise UsageError(
                f"proposal setting map_levels is {self.map_levels!r}, expected numbers between 0 and 1, both excluded"
            )
        if self.cuts and self.crop_layers:
            raise UsageError(
                f"proposal setting crop_layers is {self.crop_layers}, and with map_levels there is no grid to ask in "
                "crops; expected crop_layers 0"
            )
        if self.cuts and self.map_near:
            raise UsageError(
                f"proposal setting map_near is {self.map_near}, and with map_levels there is no grid; give one of them"
            )
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

    @property
    def by_map(self) -> bool:
        """Whether phrases' maps say what is asked."""
        return bool(self.cuts) or self.map_near > 0

    @property
    def cuts(self) -> tuple[float, ...]:
        """`map_levels`, as many as there are."""
        return tuple(self.map_levels) if isinstance(self.map_levels, list | tuple) else (self.map_levels,)

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
    "map_near",
)
_MAX_LAYERS = 4  # 341 crops: a typing error above that would run for days


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


VISUAL_PROMPTS = ("masked", "expanded", "red-box", "greyed", "contour")
"""How a region can be shown to an encoder; see `lexiseg.proposals.crops`."""
_SEEN = ("cropped", "pooled", "attended")
_SCORES = ("crop", "saliency", "both")


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How proposals are shown to the encoder.

    Attributes:
        visual_prompt: how a region is shown: "masked", "expanded", "red-box", "greyed" or "contour".
        margin: how far a crop's box is grown on every side, as a fraction of its width and height, never
            past the scan's border ("masked" and "expanded"); None for the visual prompt's own: 0 for "masked", a
            quarter for "expanded".
        dim: how much of the surround "greyed" takes away: 1 leaves plain grey, 0 the scan as it is.
        batch: crops per forward of the encoder; small ones win on a CPU.
        seen: "cropped" shows each region by itself. The others encode the whole scan once for any number of regions,
            so that a region is seen in its surroundings, and `visual_prompt`, `margin` and `dim` have no effect:
            "pooled" averages the embeddings of the positions that lie in a region, for encoders that can embed
            positions; "attended" lets a class token of its own attend to them, for ViTs that pool one.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    visual_prompt: str = "masked"
    margin: float | None = None
    dim: float = 0.8
    batch: int = 16
    seen: str = "cropped"

    def __post_init__(self) -> None:
        if self.seen not in _SEEN:
            raise UsageError(f"crops: seen is {self.seen!r}; expected one of {', '.join(_SEEN)}")
        if self.visual_prompt not in VISUAL_PROMPTS:
            raise UsageError(
                f"crops: there is no visual prompt {self.visual_prompt!r}; expected one of {', '.join(VISUAL_PROMPTS)}"
            )
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise UsageError(f"crops: margin is {self.margin}; expected a fraction of the box's size, 0 or more")
        if not 0 <= self.dim <= 1:
            raise UsageError(f"crops: dim is {self.dim}; expected 0 to 1")
        if self.batch < 1:
            raise UsageError(f"crops: batch is {self.batch}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings:
    """How regions are weighed against phrases, and how many are taken.

    Attributes:
        score: "crop" for what the encoder says of the region shown alone, as SaLIP does; "saliency" for how
            well the region covers a saliency map of the whole scan; "both" for their geometric mean.
        top: regions for each target; None for as many as the target has (see `lexiseg.text`: lungs have
            two).  More than there are proposals is all of them.
        min_score: a region whose probability of being the target is below this is not taken, however well it
            compares with the others; 0 takes the best whatever they are, as SaLIP does.
        distinct: a region is passed over when more than this share of the smaller of the two lies in one
            that was taken before it, so that the second lung is not the first one again; 1 passes over none.
        min_saliency: the box of a region that was taken is drawn around those of its pixels where the saliency map is
            this high, since a region may hold more than the target; 0, and where no pixel is, around all.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    score: str = "crop"
    top: int | None = None
    min_score: float = 0.0
    distinct: float = 0.5
    min_saliency: float = 0.0

    def __post_init__(self) -> None:
        if self.score not in _SCORES:
            raise UsageError(f"retrieval: score is {self.score!r}; expected one of {', '.join(_SCORES)}")
        whole = isinstance(self.top, int) and not isinstance(self.top, bool)
        if self.top is not None and not (whole and self.top >= 1):
            raise UsageError(f"retrieval: top is {self.top!r}; expected 1 or more, or null for the target's own number")
        for name in ("min_score", "distinct", "min_saliency"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"retrieval: {name} is {getattr(self, name)}; expected 0 to 1")
        if self.min_saliency and self.score == "crop":
            raise UsageError(
                f"retrieval: min_saliency is {self.min_saliency}, and with score crop there is no map to trim by; "
                "expected score saliency or both, or min_saliency 0"
            )

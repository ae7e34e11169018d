"""What is asked of a segmenter, what is found, and where: prompts, masks and saliency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Saliency:
    """Where a phrase is: float32 (H, W) in [0, 1] on the scan's grid.

    Attributes:
        map: the saliency; 0 is background.
        phrase: what was looked for.
        score: the raw evidence that the phrase is in the scan at all (the method says in which unit).
        layer: the encoder's layer that the map comes from.
        evidence: named numbers that speak for the phrase being in the scan ("logit", "margin", "global",
            "dense"; see `lexiseg.saliency.base.SaliencyMethod.explain`).
    """

    map: FloatArray
    phrase: str
    score: float
    layer: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a segmenter is asked.

    Attributes:
        boxes: float32 (N, 4): x0 y0 x1 y1 in scan pixels, end-exclusive.
        points: float32 (M, 2): x y in scan pixels, a pixel's centre at +0.5.
        labels: int64 (M,): 1 inside the target, 0 outside.
    """

    boxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    points: FloatArray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def empty(self) -> bool:
        """True where there is nothing to ask: an absent target, never the whole image."""
        return len(self.boxes) == 0 and len(self.points) == 0


@dataclass(frozen=True, eq=False)
class Mask:
    """A segmentation on the scan's own grid.

    Attributes:
        labels: uint8 (H, W) or (D, H, W); 0 is background, k is the k-th name (1-based).
        names: one phrase for each label.
    """

    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def of(self, name: str) -> BoolArray:
        """The mask of one name, bool, the shape of `labels`."""
        found: BoolArray = self.labels == self.names.index(name) + 1
        return found

    @property
    def foreground(self) -> BoolArray:
        """Any name at all, bool, the shape of `labels`."""
        return self.labels > 0


def box_of(mask: BoolArray) -> tuple[int, int, int, int]:
    """The smallest box around a mask: x0 y0 x1 y1 in pixels, end-exclusive; all 0 of an empty one.

    Args:
        mask: bool (H, W).

    Example:
        >>> box_of(np.array([[False, False, False], [False, True, True]]))
        (1, 1, 3, 2)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, eq=False)
class Region:
    """Which pixels a refiner takes for the target.

    Attributes:
        mask: bool (H, W) on the scan's grid; all False says that the target is absent.
        probability: float32 (H, W) in [0, 1]: the refiner's own belief that a pixel is the target (the dense
            CRF's marginal; the saliency itself for a rule that only thresholds it).
    """

    mask: BoolArray
    probability: FloatArray

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.probability.dtype != np.float32:
            raise TypeError(
                f"mask is {self.mask.dtype} and probability {self.probability.dtype}, expected bool and float32"
            )
        if self.mask.ndim != 2 or self.mask.shape != self.probability.shape:
            raise ValueError(
                f"mask has shape {self.mask.shape} and probability {self.probability.shape}, "
                "expected one (H, W) for both"
            )

    @property
    def empty(self) -> bool:
        """True where no pixel is in the region: the target is absent."""
        return not bool(self.mask.any())


@runtime_checkable
class Refiner(Protocol):
    """Turns a saliency map into a region: where exactly is what the map hints at?

    A refiner is a frozen dataclass whose fields are its settings. It is a pure function: the same map and pixels give
    the same region.
    A flat map points nowhere and gives an empty region.
    """

    method: ClassVar[str]
    """Its name in a preset."""

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """Refine a saliency map.

        Args:
            saliency: float32 (H, W) in [0, 1].
            pixels: float32 (H, W) or (H, W, 3) in [0, 1], the scan on the same grid.
        """
        ...

"""What a refiner is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from lexiseg.values.arrays import BoolArray, FloatArray


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

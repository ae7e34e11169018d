"""What a refiner is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from lexiseg.regions.region import Region
from lexiseg.scans.scan import FloatArray


@runtime_checkable
class Refiner(Protocol):
    """Turns a saliency map into a region: where exactly is what the map hints at?

    A refiner is a pure function of its arguments: the same map, pixels and settings give the same region.
    A flat map points nowhere and gives an empty region.
    """

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the settings that a call takes."""

    def __call__(self, saliency: FloatArray, pixels: FloatArray, **settings: Any) -> Region:
        """Refine a saliency map.

        Args:
            saliency: float32 (H, W) in [0, 1].
            pixels: float32 (H, W) or (H, W, 3) in [0, 1], the scan on the same grid.
            settings: any of `settings`.

        Raises:
            UsageError: a setting has a value that it cannot take.
        """

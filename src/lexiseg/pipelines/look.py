"""How a scan's grey levels are changed before models see it, and which change suits scans that came from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.values.arrays import FloatArray
from lexiseg.values.scans import Plane

_BLUR = 0.007
"""Deviation of the Gaussian that sharpening undoes a part of, in longer sides of a scan."""


@dataclass(frozen=True, kw_only=True)
class LookSettings:
    r"""How grey levels are changed before the encoder and the segmenter see a plane.

    Models know scans as their training sets showed them. Negatives, where bone is black, scans out of focus and other
    display curves are told by the settings here, or chosen by `tune_label_free`. The scan itself, clicks in it and what
    `propagate` carries stay as they are. Source of the idea, with a network in the place of three numbers: N. Karani et
    al., Test-time adaptable neural networks for robust medical image segmentation, Medical Image Analysis 68 (2021)
    101907.

    Sharpening is unsharp masking (W. K. Pratt, Digital image processing, 1978),

    .. math:: p + a (p - G_\sigma * p)

    with a Gaussian :math:`G` of :math:`\sigma` = 0.7 % of the scan's longer side.

    Attributes:
        invert: 1 - p in the place of each grey level p, 0 to 1, before anything else.
        sharpen: a, 0 to 20, before the gamma.
        gamma: p ** gamma, 0.1 to 10; above 1 darker.

    Raises:
        UsageError: a value that a setting cannot take.
    """

    invert: bool = False
    sharpen: float = 0.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.invert, bool):
            raise UsageError(f"look: invert is {self.invert!r}; expected true or false")
        if isinstance(self.sharpen, bool) or not 0 <= self.sharpen <= 20:
            raise UsageError(f"look: sharpen is {self.sharpen}; expected 0 to 20")
        if isinstance(self.gamma, bool) or not 0.1 <= self.gamma <= 10:
            raise UsageError(f"look: gamma is {self.gamma}; expected 0.1 to 10")

    @property
    def plain(self) -> bool:
        """Whether nothing is changed."""
        return not self.invert and not self.sharpen and self.gamma == 1

    def apply(self, pixels: FloatArray) -> FloatArray:
        """Pixels as models see them.

        Args:
            pixels: float32 (H, W) or (H, W, C) in [0, 1].

        Returns:
            float32 in [0, 1], of the same shape; the same array where nothing is changed.

        Example:
            >>> LookSettings(invert=True, gamma=2.0).apply(np.array([[0.5, 1.0]], np.float32)).tolist()
            [[0.25, 0.0]]
        """
        if self.plain:
            return pixels
        turned = 1 - pixels if self.invert else pixels
        if self.sharpen:
            from scipy.ndimage import gaussian_filter  # here, since the command line reads settings at once

            blurred = gaussian_filter(turned, _BLUR * max(turned.shape[:2]), axes=(0, 1))
            turned = turned + np.float32(self.sharpen) * (turned - blurred)
        return np.ascontiguousarray(np.clip(turned, 0, 1) ** np.float32(self.gamma), np.float32)

    def show(self, plane: Plane) -> Plane:
        """A plane as models see it."""
        return plane if self.plain else replace(plane, pixels=self.apply(plane.pixels))

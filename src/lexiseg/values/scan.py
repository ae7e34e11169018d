"""Values that flow through lexiseg: scans, saliency, prompts and masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scan:
    """Pixels of a scan with where they lie in space and where they came from.

    Attributes:
        pixels: float32 in [0, 1]; (H, W) grey or (H, W, 3) RGB image, or a (D, H, W) volume of D slices.
        id: a name for files and tables, without extension.
        volume: True where the first axis counts slices.
        spacing: mm between pixel centres along each of the pixel axes of `pixels` (row, column; or slice,
            row, column); None where the file does not say.
        source: the file that was read; None for a scan made in memory.
        grid: what a writer needs to put a mask on the source's own grid (for NIfTI the axes' permutation,
            affine and header); None for plain images.
        notes: what was done on reading (window, photometric inversion, ...): no patient data.
    """

    pixels: FloatArray
    id: str = "scan"
    volume: bool = False
    spacing: tuple[float, ...] | None = None
    source: Path | None = None
    grid: Any = None
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.float32:
            raise TypeError(f"pixels are {self.pixels.dtype}, expected float32 in [0, 1]")
        ok = len(shape) == 3 if self.volume else len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if not ok or 0 in shape:
            raise ValueError(f"pixels have shape {shape}, expected (H, W), (H, W, 3) or a volume (D, H, W)")

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid of a mask of this scan: (H, W), or (D, H, W) for a volume."""
        return self.pixels.shape if self.volume else self.pixels.shape[:2]


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

"""lexiseg: say what to segment; get the mask.

    >>> import lexiseg
    >>> segment = lexiseg.load("demo")
    >>> result = segment(lexiseg.read_scan("scan.png"), "breast tumor")
    >>> result["breast tumor"].present, result["breast tumor"].mask.shape

Names are looked up on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lexiseg.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lexiseg.io.read import read_scan
    from lexiseg.io.write import write_mask
    from lexiseg.pipelines.loading import load
    from lexiseg.pipelines.preset import Preset
    from lexiseg.pipelines.results import Result, TargetResult
    from lexiseg.values.masks import Mask, Prompts, Saliency
    from lexiseg.values.scans import Image, Plane, Scan, Volume

_HOMES = {
    "io.read": ("read_scan",),
    "io.write": ("write_mask",),
    "pipelines.loading": ("load",),
    "pipelines.preset": ("Preset",),
    "pipelines.results": ("TargetResult", "Result"),
    "values.masks": ("Mask", "Prompts", "Saliency"),
    "values.scans": ("Image", "Plane", "Scan", "Volume"),
}

__all__ = [
    "Image",
    "Mask",
    "Plane",
    "Preset",
    "Prompts",
    "Result",
    "Saliency",
    "Scan",
    "TargetResult",
    "Volume",
    "__version__",
    "load",
    "read_scan",
    "write_mask",
]

__getattr__ = lazy_names(__name__, _HOMES)

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
    from lexiseg.pipelines import Finding, Preset, Result, load
    from lexiseg.scans import Mask, Prompts, Saliency, Scan, read_scan, write_mask

_HOMES = {
    "pipelines": ("Finding", "Preset", "Result", "load"),
    "scans": ("Mask", "Prompts", "Saliency", "Scan", "read_scan", "write_mask"),
}

__all__ = [
    "Finding",
    "Mask",
    "Preset",
    "Prompts",
    "Result",
    "Saliency",
    "Scan",
    "__version__",
    "load",
    "read_scan",
    "write_mask",
]

__getattr__ = lazy_names(__name__, _HOMES)

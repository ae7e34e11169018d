"""lexiseg: say what to segment; get the mask.

    >>> import lexiseg
    >>> segment = lexiseg.load("demo")
    >>> result = segment(lexiseg.read_scan("scan.png"), "breast tumor")
    >>> result["breast tumor"].present, result["breast tumor"].mask.shape

Names are looked up on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lexiseg.pipelines import Finding, Preset, Result, load
    from lexiseg.scans import Mask, Prompts, Saliency, Scan, read_scan, write_mask

_HOMES = {
    "lexiseg.pipelines": ("Finding", "Preset", "Result", "load"),
    "lexiseg.scans": ("Mask", "Prompts", "Saliency", "Scan", "read_scan", "write_mask"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'lexiseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)

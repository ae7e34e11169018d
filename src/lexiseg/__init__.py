"""lexiseg: say what to segment; get the mask.

    >>> import lexiseg
    >>> result = lexiseg.segment("scan.png", "breast tumor")
    >>> result["breast tumor"].verdict
    'present'
    >>> _ = result.save("masks", overlay=True)

Names are looked up on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from lexiseg.lazy import lazy_names
from lexiseg.version import __version__

# Not from typing, whose import takes longer than all of this one's.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from lexiseg.api import Segmentation, TextSegmenter, load, segment
    from lexiseg.errors import LexisegError
    from lexiseg.io.masks import read_mask
    from lexiseg.io.read import read_scan
    from lexiseg.io.write import write_mask
    from lexiseg.pipelines.preset import Preset, load_preset, preset_names
    from lexiseg.pipelines.results import Result, TargetResult
    from lexiseg.session import Session
    from lexiseg.values.geometry import Geometry
    from lexiseg.values.masks import Mask, Prompts, Saliency
    from lexiseg.values.scans import Image, Plane, Volume

_HOMES = {
    "api": ("Segmentation", "TextSegmenter", "load", "segment"),
    "errors": ("LexisegError",),
    "io.masks": ("read_mask",),
    "io.read": ("read_scan",),
    "io.write": ("write_mask",),
    "pipelines.preset": ("Preset", "load_preset", "preset_names"),
    "pipelines.results": ("Result", "TargetResult"),
    "session": ("Session",),
    "values.geometry": ("Geometry",),
    "values.masks": ("Mask", "Prompts", "Saliency"),
    "values.scans": ("Image", "Plane", "Volume"),
}

__all__ = [
    "Geometry",
    "Image",
    "LexisegError",
    "Mask",
    "Plane",
    "Preset",
    "Prompts",
    "Result",
    "Saliency",
    "Segmentation",
    "Session",
    "TargetResult",
    "TextSegmenter",
    "Volume",
    "__version__",
    "load",
    "load_preset",
    "preset_names",
    "read_mask",
    "read_scan",
    "segment",
    "write_mask",
]

__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted(__all__)

"""Scans and presets made in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from lexiseg.pipelines.preset import Preset
from lexiseg.values.arrays import FloatArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume
from lexiseg.values.window import ValueRange


def volume_of(pixels: FloatArray, *, id: str = "scan", spacing: tuple[float, float, float] | None = None) -> Volume:
    """A volume whose planes are the slices of `pixels`, float32 (D, H, W) in [0, 1], as they are."""
    depth, height, width = pixels.shape
    geometry = Geometry.of_spacing((depth, height, width), spacing)
    return Volume(np.asarray(pixels, np.float32), geometry, id=id, window=ValueRange(0.0, 1.0, "as made"))


def preset_of(name: str, *, pipeline: str = "medclip-sam", **sections: Any) -> Preset:
    """A preset with some settings."""
    return Preset(name=name, pipeline=pipeline).override(**sections)


def dense_preset(name: str = "test") -> Preset:
    """Dense maps cut at one half, presence by the map alone: of a phrase that names a colour, the pixels of it."""
    return preset_of(
        name,
        saliency={"method": "dense"},
        regions={"method": "threshold"},
        prompts={"boxes": "all"},
        presence={"threshold": 0.5, "global_weight": 0.0},
    )

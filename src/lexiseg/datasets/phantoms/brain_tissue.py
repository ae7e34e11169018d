"""Signal of the tissues of a healthy head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lexiseg.datasets.phantoms.brain_head import Head
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import (
    band,
    fractal_noise,
    mix,
    ridges,
    smooth_noise,
    soft_below,
)
from lexiseg.datasets.phantoms.toolbox.shapes import blob
from lexiseg.scans.scan import BoolArray, FloatArray

_TISSUES = ("scalp", "bone", "csf", "grey", "white", "edema", "muscle")
SIGNAL: Mapping[str, Mapping[str, float]] = {
    contrast: dict(zip(_TISSUES, values, strict=True))
    for contrast, values in {
        "T1": (0.9, 0.06, 0.12, 0.46, 0.66, 0.38, 0.42),
        "contrast-enhanced T1": (0.8, 0.05, 0.12, 0.33, 0.38, 0.26, 0.4),
        "T2": (0.75, 0.05, 0.95, 0.5, 0.36, 0.82, 0.25),
        "FLAIR": (0.8, 0.05, 0.08, 0.44, 0.36, 0.7, 0.3),
    }.items()
}
"""Signal of each tissue by contrast, white being 1."""


def paint_tissues(draw: Draw, head: Head, contrast: str) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Signal of a healthy head, float32 (H, W), and the masks of its parts."""
    signal = SIGNAL[contrast]
    lobes = smooth_noise(draw.rng, draw.shape, (4, 4))
    inner = draw.uniform(1.02, 1.05)  # of the skull, as a level of the brain
    rim = draw.uniform(0.93, 0.96)  # of the scalp, as a level of the head
    shell = mix(signal["csf"], signal["bone"], soft_below(-head.brain, -inner, 0.02))
    marrow = 0.35 * signal["scalp"] * band(head.outer, rim - 0.035, 0.008) * (lobes > -0.3)
    skin = soft_below(-head.outer, -rim, 0.015)
    shell = mix(shell + marrow, signal["scalp"] * (1 + 0.12 * lobes), skin)
    shell = mix(shell, _flesh(draw, signal), head.face * soft_below(-head.brain, -1.06, 0.04) * (1 - skin))
    value = mix(shell, _brain(draw, head, contrast, lobes), soft_below(head.brain, 1.0, 0.015))
    masks = {
        "head": head.outer < 1,
        "brain": (head.brain < 1) & (head.outer < 1),
        "skull": (head.brain >= inner) & (head.outer < rim) & (head.face < 0.5),
        "ventricles": (head.ventricles < 1) & (head.brain < 0.8),
    }
    value = mix(0.0, value, soft_below(head.outer, 1.0, 0.015))
    return value, {name: mask for name, mask in masks.items() if mask.any()}


def _brain(draw: Draw, head: Head, contrast: str, lobes: FloatArray) -> FloatArray:
    """White matter, and a folded cortex that thins out towards the middle."""
    signal = SIGNAL[contrast]
    folds = smooth_noise(draw.rng, draw.shape, (draw.uniform(15, 24), draw.uniform(15, 24)))
    depth = np.clip((1 - head.brain) / np.float32(draw.uniform(0.28, 0.42)), 0, 1)  # 0 at the surface
    spread = np.float32(draw.uniform(0.35, 0.6)) * (1 - depth) ** np.float32(0.7)
    away = np.abs(folds + 0.4 * lobes)  # from the nearest sulcus
    sulci = soft_below(away, spread * draw.uniform(0.1, 0.45), 0.15) * soft_below(depth, 0.8, 0.3)
    cortex = soft_below(away, spread + 0.1, 0.35) * soft_below(depth, 0.9, 0.3)
    cortex = np.maximum(cortex, soft_below(1 - head.brain, 0.05, 0.03))
    value = mix(signal["white"], signal["grey"], cortex)
    if head.plane != "sagittal":
        for side in (-1, 1):
            nucleus = blob(head.y, head.x, centre=(0.02, side * 0.24), axes=(0.2, 0.1), angle=side * -0.25)
            middle = 0.5 * (signal["grey"] + signal["white"])
            value = mix(value, middle, 0.8 * soft_below(nucleus, 1.0, 0.3))
    value = value * (1 + 0.03 * fractal_noise(draw.rng, draw.shape, (16, 16)))
    value = mix(value, signal["csf"], sulci * draw.uniform(0.45, 0.9))
    value = mix(value, signal["csf"], np.clip(0.9 * head.fissure, 0, 1))
    if contrast == "contrast-enhanced T1":
        vessels = ridges(smooth_noise(draw.rng, draw.shape, (18, 18)), 0.12)
        value = mix(value, 0.7, draw.uniform(0.2, 0.8) * vessels * soft_below(-np.abs(folds), -1.3, 0.5))
    return mix(value, signal["csf"], soft_below(head.ventricles, 1.0, 0.35) * (head.brain < 0.8))


def _flesh(draw: Draw, signal: Mapping[str, float]) -> FloatArray:
    """Muscle, fat and air of face and neck: a clutter no model should take for brain."""
    clutter = fractal_noise(draw.rng, draw.shape, (11, 11), octaves=3, gain=0.7)
    fat = ridges(smooth_noise(draw.rng, draw.shape, (20, 20)) + 0.4 * clutter, 0.3)
    flesh = signal["muscle"] * (1 + 0.45 * clutter) + draw.uniform(0.1, 0.4) * signal["scalp"] * fat
    return mix(flesh, signal["bone"], soft_below(-clutter, -0.9, 0.5))

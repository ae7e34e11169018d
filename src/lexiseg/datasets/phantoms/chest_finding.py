"""Nodules and opacities in a lung."""

from __future__ import annotations

import numpy as np

from lexiseg.datasets.phantoms.chest_anatomy import Thorax
from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import smooth_noise, soft_below
from lexiseg.datasets.phantoms.toolbox.shapes import blob, coordinates, harmonic_profile
from lexiseg.scans.scan import BoolArray, FloatArray

FINDINGS = ("lung nodule", "lung opacity")
AREAS = {"small": (0.0009, 0.0028), "medium": (0.0034, 0.011), "large": (0.013, 0.028)}
"""Fractions of the image's area."""


def draw_finding(draw: Draw, chest: Thorax, kind: str) -> tuple[FloatArray, BoolArray]:
    """Extra thickness of tissue in one lung, float32 (H, W), and its mask, never empty."""
    nodule = kind == "lung nodule"
    lung = chest.fields & (chest.x * draw.sign() > 0)
    y, x = coordinates(draw.shape)
    area = draw.uniform(*AREAS[draw.choice("finding_size", tuple(AREAS), (4, 4, 2))])
    radius = max((area * x.size / np.pi) ** 0.5, 1.5) / (min(draw.shape) / 2)
    deep = (lung & (chest.lung > 0.25)).ravel().nonzero()[0]
    at = int(deep[int(draw.uniform(0, 1) * len(deep))]) if len(deep) else int(np.argmax(lung * chest.lung))
    stretch = draw.uniform(0.85, 1.15) if nodule else draw.uniform(0.7, 1.4)
    level = blob(
        y,
        x,
        centre=(float(y.ravel()[at]), float(x.ravel()[at])),
        axes=(radius * stretch, radius / stretch),
        profile=harmonic_profile(draw.rng, 0.08 if nodule else 0.25),
    )
    if nodule:
        body = draw.uniform(0.15, 0.35) * np.sqrt(np.clip(1 - 0.75 * level**2, 0, 1))
        body = body * soft_below(level, 1.0, 0.4)
    else:
        level = level * (1 + 0.18 * smooth_noise(draw.rng, draw.shape, (18, 18)))
        body = draw.uniform(0.12, 0.3) * (0.8 + 0.3 * smooth_noise(draw.rng, draw.shape, (40, 40)))
        body = body * soft_below(level, 1.0, 0.5)
    mask = (level < 1) & lung
    mask.ravel()[at] = True
    return np.asarray(body * soft_below(-chest.lung, 0.0, 0.1), np.float32), mask

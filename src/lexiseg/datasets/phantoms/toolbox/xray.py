"""How a detector and a display turn thickness of tissue into a radiograph."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import mix, wide_blur
from lexiseg.scans.scan import FloatArray


def expose(draw: Draw, soft: FloatArray, bone: FloatArray) -> FloatArray:
    """A radiograph, bright where much was absorbed.

    Beer and Lambert: a detector counts N = N0 exp(-p), with p the line integral of attenuation. Shown is the
    negative of log N, so that brightness is linear in thickness up to the display's sigmoid, and noise grows
    where few photons arrive: std(log N) = 1 / sqrt(N). Scattered photons lay a wide veil over it.

    Args:
        draw: source of exposure, dose, veil and window.
        soft: thickness of soft tissue, about 1 in the middle of the body, float32 (H, W).
        bone: thickness of bone, float32 (H, W).

    Returns:
        float32 (H, W) in [0, 1].
    """
    path = draw.uniform(1.7, 2.3) * soft + draw.uniform(0.3, 0.65) * bone
    unit = min(draw.shape)
    path = gaussian_filter(path, max(0.3, 0.0022 * unit), truncate=2.5)
    path = mix(path, wide_blur(path, 0.06 * unit), draw.uniform(0.0, 0.3))
    dose = np.float32(10 ** draw.uniform(3.4, 5.0))
    path = path + draw.rng.standard_normal(draw.shape, dtype=np.float32) * np.exp(0.5 * path) / np.sqrt(dose)
    middle, contrast = draw.uniform(0.9, 1.5), draw.uniform(1.0, 2.2)
    shown = 1 / (1 + np.exp(-contrast * (path - middle)))
    low, high = (1 / (1 + np.exp(-contrast * (v - middle))) for v in (0.0, draw.uniform(2.3, 3.0)))
    black, white = draw.uniform(0.0, 0.1), draw.uniform(0.85, 1.0)
    return np.asarray(np.clip(black + (white - black) * (shown - low) / (high - low), 0, 1), np.float32)

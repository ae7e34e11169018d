"""How a magnetic resonance scanner turns tissue signal into an image."""

from __future__ import annotations

import numpy as np

from lexiseg.datasets.phantoms.draw import Draw
from lexiseg.datasets.phantoms.toolbox.fields import smooth_noise
from lexiseg.scans.scan import FloatArray


def acquire(draw: Draw, signal: FloatArray) -> FloatArray:
    """A magnitude image: coil sensitivity (a smooth bias field), Rician noise, a window.

    The magnitude of a complex signal with Gaussian noise of equal variance in both channels is Rician
    (H. Gudbjartsson and S. Patz, "The Rician distribution of noisy MRI data", MRM 34, 1995).

    Args:
        draw: source of bias, noise level and window.
        signal: float32 (H, W), 1 being the brightest tissue.

    Returns:
        float32 (H, W) in [0, 1].
    """
    bias = np.exp(np.float32(draw.uniform(0.02, 0.16)) * smooth_noise(draw.rng, draw.shape, (2, 2)))
    sigma = np.float32(10 ** draw.uniform(-2.3, -1.35))
    real, imaginary = draw.rng.standard_normal((2, *draw.shape), dtype=np.float32) * sigma
    real += signal * bias
    magnitude = np.sqrt(real * real + imaginary * imaginary)
    # Displays put black at the noise floor, not at zero.
    shown = magnitude * np.float32(draw.uniform(0.75, 1.3)) - sigma * 0.7
    return np.asarray(np.clip(shown, 0, 1), np.float32)

"""How devices make pictures of tissue: speckle and the fan of ultrasound, the bias field of MR, a radiograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

from lexiseg.datasets.phantoms.phantom import Draw
from lexiseg.datasets.phantoms.shapes import mix, smooth_noise, wide_blur
from lexiseg.values.arrays import FloatArray

# In grains, along and across the beam. All differences are in different directions, lest a texture be seen.
_SHIFTS = ((9.0, -4.0), (-7.0, -8.0), (-4.0, 11.0), (14.0, 7.0), (5.0, -16.0))


def scatter(rng: np.random.Generator, shape: tuple[int, int], psf: tuple[float, float]) -> FloatArray:
    """Fully developed speckle: complex white scatterers seen through a Gaussian point-spread function.

    The envelope of the sum of many scatterers with random phase is Rayleigh distributed (J. W. Goodman,
    "Some fundamental properties of speckle", JOSA 66, 1976), which a filtered complex Gaussian field is.

    Args:
        rng: source of chance.
        shape: (rows along the beam, columns across).
        psf: standard deviation of the point-spread function along (rows, columns), in pixels.

    Returns:
        float32 (2, rows, columns): real and imaginary part, E[re^2 + im^2] = 1.
    """
    field = rng.standard_normal((2, *shape), dtype=np.float32)
    power = 0.5
    for axis, sigma in ((1, psf[0]), (2, psf[1])):
        radius = max(1, round(2.5 * sigma))
        field = gaussian_filter1d(field, sigma, axis=axis, radius=radius, mode="wrap")
        tap = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        power *= float(np.sum(tap**2) / np.sum(tap) ** 2)
    return np.asarray(field * np.float32((0.25 / power) ** 0.5), np.float32)


def envelope(rng: np.random.Generator, decibels: FloatArray, *, psf: tuple[float, float], looks: int = 1) -> FloatArray:
    """Echo amplitude of a medium of the given mean backscatter, with speckle.

    Args:
        rng: source of chance.
        decibels: mean echo level, float32 (H, W), 20 log10 of amplitude.
        psf: as for `scatter`.
        looks: speckle patterns averaged in power (spatial compounding), 1 to 6: more is smoother.

    Returns:
        Amplitude, float32 (H, W), mean power 10^(decibels / 10).
    """
    real, imaginary = scatter(rng, (decibels.shape[0], decibels.shape[1]), psf)
    power = compound(real * real + imaginary * imaginary, psf, looks)
    return np.asarray(np.sqrt(power) * amplitude(decibels), np.float32)


def compound(power: FloatArray, psf: tuple[float, float], looks: int) -> FloatArray:
    """Mean of `looks` copies of a speckle pattern, each shifted by more than its grain.

    Where the grains do not overlap a shifted copy is as good as an independent one, and costs nothing.
    """
    total = power.copy()
    for rows, columns in _SHIFTS[: looks - 1]:
        total += np.roll(power, (round(rows * psf[0]), round(columns * psf[1])), axis=(0, 1))
    return total / np.float32(looks)


def amplitude(decibels: FloatArray) -> FloatArray:
    """10^(decibels / 20)."""
    return np.asarray(np.exp(decibels * np.float32(np.log(10) / 20)), np.float32)


def log_compress(echo: FloatArray, *, dynamic_range: float, floor: float = 1e-4) -> FloatArray:
    """Brightness in [0, 1]: 0 dB is white, -dynamic_range dB and below black."""
    level = np.float32(20) * np.log10(echo + np.float32(floor))
    return np.asarray(np.clip(1 + level / np.float32(dynamic_range), 0, 1), np.float32)


def beneath(inside: FloatArray, *, blur: float = 1.0) -> FloatArray:
    """How much of a structure each beam has crossed: the sum down the columns, as a fraction of the height.

    Times a negative number of decibels it is an acoustic shadow, times a positive one posterior enhancement.

    Args:
        inside: opacity of the structure, float32 (H, W), beams along the columns.
        blur: width of a beam, in pixels.
    """
    path = np.cumsum(inside, axis=0, dtype=np.float32) / np.float32(inside.shape[0])
    return np.asarray(gaussian_filter1d(path, max(blur, 0.3), axis=1), np.float32)


@dataclass(frozen=True)
class Sector:
    """The fan of a curved array.

    Attributes:
        apex: (row, column) where all beams meet, in units of the image's height from its top left corner; the
            row may be negative.
        near, far: depth of the fan's inner and outer arc, from the apex, in the same units.
        half_angle: of the fan, radians.
    """

    apex: tuple[float, float]
    near: float
    far: float
    half_angle: float

    def polar(self, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Depth from the apex in heights, and angle to the middle beam in radians, float32 (H, W) each."""
        y = ((np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0] - np.float32(self.apex[0]))[:, None]
        x = ((np.arange(shape[1], dtype=np.float32) + 0.5) / shape[0] - np.float32(self.apex[1]))[None, :]
        return np.hypot(y, x), np.arctan2(x, y)

    def beams(self, depth: FloatArray, angle: FloatArray, lines: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Position on a (samples, beams) raster of the fan, in its pixels."""
        row = (depth - self.near) * np.float32((lines[0] - 1) / (self.far - self.near))
        column = (angle / np.float32(2 * self.half_angle) + np.float32(0.5)) * np.float32(lines[1] - 1)
        return row, column

    def scatter(
        self,
        rng: np.random.Generator,
        depth: FloatArray,
        angle: FloatArray,
        *,
        lines: tuple[int, int],
        psf: tuple[float, float],
        looks: int = 1,
    ) -> FloatArray:
        """Speckle of the fan: made on its raster of samples and beams, so that it widens with depth.

        Returns:
            Echo amplitude of unit power, float32 of the shape of `depth`.
        """
        real, imaginary = scatter(rng, lines, psf)
        power = compound(real * real + imaginary * imaginary, psf, looks)
        at = np.stack(self.beams(depth, angle, lines))
        return np.asarray(np.sqrt(map_coordinates(power, at, order=1, mode="nearest")), np.float32)


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

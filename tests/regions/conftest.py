"""Scans, saliency maps and two references for the dense CRF."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from lexiseg.regions.crf import CRFSettings

Pair = tuple[np.ndarray, np.ndarray]
Marginal = Callable[[np.ndarray, np.ndarray, CRFSettings], np.ndarray]


def _smooth(generator: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(generator.standard_normal(shape), (sigma, sigma, 0)[: len(shape)])
    return noise / noise.std()


def _speckled_scan(shape: tuple[int, int], *, seed: int, colour: bool = False, noise: float = 0.1) -> Pair:
    """A dark ellipse with a sharp edge under speckle, and a blurred saliency map that is somewhat off it."""
    generator = np.random.default_rng(seed)
    height, width = shape
    y, x = np.mgrid[:height, :width]
    mass = ((y - 0.5 * height) / (0.25 * height)) ** 2 + ((x - 0.55 * width) / (0.2 * width)) ** 2 < 1
    image = np.where(mass, 0.2, 0.55 + 0.05 * _smooth(generator, shape, height / 15))
    size: tuple[int, ...] = shape
    if colour:
        size = (*shape, 3)
        image = image[..., None] * np.array([1, 0.7, 0.5]) + 0.03 * _smooth(generator, size, height / 20)
    image = np.clip(image * (1 + noise * _smooth(generator, size, 1)), 0, 1)
    blurred = ndimage.gaussian_filter(np.roll(mass, (height // 20, width // 15), (0, 1)) * 1.0, height / 20)
    saliency = np.clip(blurred / blurred.max() + 0.05 * _smooth(generator, shape, height / 30), 0, 1)
    return saliency.astype(np.float32), image.astype(np.float32)


def _unary(saliency: np.ndarray, settings: CRFSettings) -> np.ndarray:
    """Energies (2, N) of background and foreground, from the 8-bit saliency."""
    p = (np.rint(saliency * np.float32(255)) / 255).ravel()
    q = np.stack([1 - p, p])
    return -np.log(q + settings.eps) / (settings.tau / (1 + np.exp(-q)))


def _softmax(energies: np.ndarray) -> np.ndarray:
    weights = np.exp(energies.min(axis=0) - energies)
    return weights / weights.sum(axis=0)


def _all_pairs(features: np.ndarray) -> np.ndarray:
    kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(axis=-1))
    scale = 1 / np.sqrt(kernel.sum(axis=1))
    return scale[:, None] * kernel * scale


def _brute_force(saliency: np.ndarray, image: np.ndarray, settings: CRFSettings) -> np.ndarray:
    """The mean-field steps by their definition: every pair of pixels, both labels, double precision."""
    height, width = saliency.shape
    levels = np.rint(image * np.float32(255)).astype(np.float64)
    colours = np.broadcast_to(levels if image.ndim == 3 else levels[..., None], (height, width, 3))
    place = np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2).astype(np.float64)
    appearance = np.hstack([place / settings.bilateral_sxy, colours.reshape(-1, 3) / settings.bilateral_srgb])
    weights = settings.spatial_compat * _all_pairs(place / settings.spatial_sxy)
    weights += settings.bilateral_compat * _all_pairs(appearance)
    unary = _unary(saliency, settings)
    marginals = _softmax(unary)
    for _ in range(settings.iterations):
        marginals = _softmax(unary - marginals @ weights)
    return marginals[1].reshape(height, width)


def _compiled(saliency: np.ndarray, image: np.ndarray, settings: CRFSettings) -> np.ndarray:
    """The same by the authors' implementation, through pydensecrf2."""
    from pydensecrf import densecrf

    height, width = saliency.shape
    levels = np.rint(image * np.float32(255)).astype(np.uint8)
    colours = levels if image.ndim == 3 else levels[..., None].repeat(3, axis=2)
    model = densecrf.DenseCRF2D(width, height, 2)
    model.setUnaryEnergy(np.ascontiguousarray(_unary(saliency, settings), np.float32))
    model.addPairwiseGaussian(sxy=settings.spatial_sxy, compat=settings.spatial_compat)
    model.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=np.ascontiguousarray(colours),
        compat=settings.bilateral_compat,
    )
    return np.array(model.inference(settings.iterations))[1].reshape(height, width)


@pytest.fixture
def speckled_scan() -> Callable[..., Pair]:
    return _speckled_scan


@pytest.fixture
def brute_force() -> Marginal:
    return _brute_force


@pytest.fixture
def compiled() -> Marginal:
    pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed: pip install pydensecrf2")
    return _compiled

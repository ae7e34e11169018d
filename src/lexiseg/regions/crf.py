"""Dense conditional random field: a saliency map drawn towards the edges of its scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lexiseg.errors import UsageError
from lexiseg.regions.threshold import is_flat
from lexiseg.values.arrays import FloatArray
from lexiseg.values.masks import Region

GRID_LIMIT = 1 << 24
_Filter = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class CRFSettings:
    """Settings of `dense_crf`; the defaults are those published with MedCLIP-SAM.

    Attributes:
        spatial_sxy: standard deviation of the smoothness kernel, in pixels.
        spatial_compat: weight of the smoothness kernel; 0 leaves it out.
        bilateral_sxy: standard deviation of the appearance kernel over positions, in pixels.
        bilateral_srgb: standard deviation of the appearance kernel over each colour channel, in 1/255.
        bilateral_compat: weight of the appearance kernel; 0 leaves it out.
        tau: temperature of the unary energies.
        eps: added to a probability before its logarithm.
        iterations: mean-field steps; 0 gives the unary alone.
        threshold: the saliency that counts as undecided.  The published unary takes 0.5; another value is
            mapped to 0.5 by stretching the maps below and above it linearly, 0 and 1 staying where they are.
    """

    spatial_sxy: float = 3.0
    spatial_compat: float = 3.0
    bilateral_sxy: float = 60.0
    bilateral_srgb: float = 5.0
    bilateral_compat: float = 5.0
    tau: float = 1.05
    eps: float = 1e-8
    iterations: int = 1
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("spatial_sxy", "bilateral_sxy", "bilateral_srgb", "tau", "eps"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"CRF setting {name} is {getattr(self, name)}, expected a number above 0")
        for name in ("spatial_compat", "bilateral_compat", "iterations"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"CRF setting {name} is {getattr(self, name)}, expected 0 or more")
        if self.iterations != int(self.iterations):
            raise UsageError(f"CRF setting iterations is {self.iterations}, expected a whole number")
        if not 0 < self.threshold < 1:
            raise UsageError(f"CRF setting threshold is {self.threshold}, expected between 0 and 1, both excluded")


def dense_crf(saliency: FloatArray, image: FloatArray, *, settings: CRFSettings | None = None) -> FloatArray:
    """Marginal probability of the foreground in a two-label, fully connected CRF, by mean field.

    With labels 0 (background) and 1, saliency p, and sigmoid s, the unary energies are
    ``U_i(0) = -log(1 - p_i + eps) / (tau s(1 - p_i))`` and ``U_i(1) = -log(p_i + eps) / (tau s(p_i))``.
    Mean field starts at ``Q_i = softmax(-U_i)``, and each step is, for the Potts model,

        Q_i(l)  is proportional to  exp(-U_i(l) + sum_m w_m sum_j k_m(i, j) Q_j(l) / sqrt(n_m(i) n_m(j)))

    over the kernels ``k_1 = exp(-|x_i - x_j|^2 / (2 sxy^2))`` and
    ``k_2 = exp(-|x_i - x_j|^2 / (2 sxy^2) - |c_i - c_j|^2 / (2 srgb^2))``, where n_m(i) is the kernel's sum
    over all j.  The sums include the pixel itself, as in the authors' implementation.  Only the difference
    d = Q(1) - Q(0) = tanh(log-odds / 2) has to be filtered, one map for each kernel and step.

    Saliency and image are rounded to 8 bits, as in the published pipeline, which passes both through files.
    A grey scan's colour distance is sqrt(3) times its grey difference, so its kernel lives in three
    dimensions and is filtered on a dense grid; colour takes the five-dimensional permutohedral lattice.

    Source: Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge
    potentials", NeurIPS 2011; the unary is that of MedCLIP-SAM (Koleilat et al., MICCAI 2024).

    Args:
        saliency: float32 (H, W) in [0, 1].
        image: float32 (H, W) or (H, W, 3) in [0, 1].
        settings: the published ones where None.

    Returns:
        float32 (H, W) in [0, 1]; above 0.5 is foreground.

    Raises:
        ValueError: the shapes do not fit together, or a value is not finite.
    """
    from scipy.special import expit  # here: importing scipy takes longer than listing presets

    settings = settings or CRFSettings()
    if saliency.ndim != 2 or saliency.size == 0 or image.shape not in (saliency.shape, (*saliency.shape, 3)):
        raise ValueError(
            f"saliency has shape {saliency.shape} and image {image.shape}, expected (H, W) and (H, W) or (H, W, 3)"
        )
    unary = _unary_log_odds(saliency, settings)
    log_odds = unary
    kernels = _kernels(image, settings) if settings.iterations else []
    for _ in range(int(settings.iterations)):
        difference = np.tanh(0.5 * log_odds)
        log_odds = unary.copy()
        for weight, kernel in kernels:
            log_odds += np.float32(weight) * kernel(difference)
    return np.asarray(expit(log_odds), np.float32)


@dataclass(frozen=True, kw_only=True)
class DenseCRF(CRFSettings):
    """The dense CRF as a refiner: the region is where the foreground's marginal is above one half."""

    method: ClassVar[str] = "crf"

    def __call__(self, saliency: FloatArray, pixels: FloatArray) -> Region:
        """See `Refiner`; a flat map gives an empty region."""
        if is_flat(saliency):
            return Region(np.zeros(saliency.shape, np.bool_), np.zeros(saliency.shape, np.float32))
        probability = dense_crf(saliency, pixels, settings=self)
        return Region(probability > 0.5, probability)


def _to_levels(values: FloatArray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("found a value that is not finite, expected numbers in [0, 1]")
    levels: np.ndarray = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels


def _unary_log_odds(saliency: FloatArray, settings: CRFSettings) -> FloatArray:
    """U(0) - U(1), float32 (H, W); 256 saliency levels, so 256 logarithms."""
    from scipy.special import expit  # here: importing scipy takes longer than listing presets

    if settings.threshold != 0.5:
        saliency = np.interp(saliency, [0, settings.threshold, 1], [0, 0.5, 1]).astype(np.float32)
    p = np.arange(256) / 255
    background = -np.log(1 - p + settings.eps) / (settings.tau * expit(1 - p))
    foreground = -np.log(p + settings.eps) / (settings.tau * expit(p))
    table = (background - foreground).astype(np.float32)
    return np.asarray(table[_to_levels(saliency)])


def _kernels(image: FloatArray, settings: CRFSettings) -> list[tuple[float, _Filter]]:
    from lexiseg.regions.filters import SpatialGaussian

    kernels: list[tuple[float, _Filter]] = []
    if settings.spatial_compat:
        spatial = SpatialGaussian((image.shape[0], image.shape[1]), settings.spatial_sxy)
        kernels.append((settings.spatial_compat, spatial))
    if settings.bilateral_compat:
        appearance = _bilateral(_to_levels(image), settings.bilateral_sxy, settings.bilateral_srgb)
        kernels.append((settings.bilateral_compat, _normalised(appearance, image.shape[:2])))
    return kernels


def _bilateral(levels: np.ndarray, sxy: float, srgb: float) -> _Filter:
    """The appearance kernel of a uint8 image, (H, W) or (H, W, 3), on whichever structure suits it."""
    from lexiseg.regions.filters import BilateralGrid
    from lexiseg.regions.lattice import PermutohedralLattice

    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        levels = levels[..., 0]
    height, width = levels.shape[:2]
    if levels.ndim == 2:
        sg = srgb / np.sqrt(3)
        if BilateralGrid.cells((height, width), sxy) <= GRID_LIMIT:
            return BilateralGrid(levels, sxy=sxy, sg=sg)
        levels, srgb = levels[..., None], sg
    features = np.empty((2 + levels.shape[2], height, width), np.float32)
    features[0] = np.arange(height)[:, None] / sxy
    features[1] = np.arange(width) / sxy
    features[2:] = np.moveaxis(levels, 2, 0) / np.float32(srgb)
    return PermutohedralLattice(features.reshape(len(features), -1))


def _normalised(kernel: _Filter, shape: tuple[int, ...]) -> _Filter:
    """The kernel divided by the square roots of its row sums on either side; any constant factor cancels."""
    scale = np.reciprocal(np.sqrt(kernel(np.ones(shape, np.float32))))
    return lambda values: scale * kernel(scale * values)

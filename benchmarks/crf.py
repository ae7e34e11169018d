"""Time and labels of our dense CRF beside pydensecrf2's, in one run.

    python benchmarks/crf.py [--rounds 9]

Both get the same energies from the same synthetic speckled scans, and run in turn.  The table gives medians
of the process's CPU time, which a busy machine hardly changes and which counts every thread (pydensecrf2 has
one; so have we with OMP_NUM_THREADS=1), and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage
from scipy.special import expit

from lexiseg.regions.crf import CRFSettings, dense_crf

SIZES = ((500, 400), (384, 384))
KINDS = {"grey": (False, 0.1), "colour, clean": (True, 0.0), "colour, speckled": (True, 0.1)}


def speckled_scan(shape: tuple[int, int], *, colour: bool, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A dark mass under speckle, and a blurred saliency map that is somewhat off it; float32 in [0, 1]."""
    generator = np.random.default_rng(0)
    height, width = shape
    y, x = np.mgrid[:height, :width]
    mass = ((y - 0.5 * height) / (0.25 * height)) ** 2 + ((x - 0.55 * width) / (0.2 * width)) ** 2 < 1

    def texture(sigma: float, channels: int) -> np.ndarray:
        field = ndimage.gaussian_filter(generator.standard_normal((height, width, channels)), (sigma, sigma, 0))
        return field / field.std()

    channels = 3 if colour else 1
    tint = np.array([1, 0.7, 0.5]) if colour else np.ones(1)
    image = np.where(mass[..., None], 0.2, 0.55 + 0.05 * texture(height / 15, 1)) * tint
    image = image + 0.03 * texture(height / 20, channels)
    image = np.clip(image * (1 + noise * texture(1, channels)), 0, 1).astype(np.float32)
    saliency = ndimage.gaussian_filter(np.roll(mass, (20, 20), (0, 1)) * 1.0, height / 20)
    saliency = np.clip(saliency / saliency.max() + 0.05 * texture(height / 30, 1)[..., 0], 0, 1)
    return saliency.astype(np.float32), image if colour else image[..., 0]


def compiled(saliency: np.ndarray, image: np.ndarray, settings: CRFSettings) -> np.ndarray:
    """The foreground's marginal by pydensecrf2, its unary included, as for ours."""
    from pydensecrf import densecrf

    height, width = saliency.shape
    p = (np.rint(saliency * np.float32(255)) / np.float32(255)).ravel()
    both = np.stack([1 - p, p])
    unary = -np.log(both + np.float32(settings.eps)) / (np.float32(settings.tau) * expit(both))
    levels = np.rint(image * np.float32(255)).astype(np.uint8)
    if levels.ndim == 2:
        levels = levels[..., None].repeat(3, axis=2)
    model = densecrf.DenseCRF2D(width, height, 2)
    model.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    model.addPairwiseGaussian(sxy=settings.spatial_sxy, compat=settings.spatial_compat)
    model.addPairwiseBilateral(
        sxy=settings.bilateral_sxy,
        srgb=settings.bilateral_srgb,
        rgbim=levels,
        compat=settings.bilateral_compat,
    )
    return np.array(model.inference(settings.iterations))[1].reshape(height, width)


def timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.process_time()
    result = call()
    return 1000 * (time.process_time() - start), result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each case is timed")
    rounds = parser.parse_args().rounds
    if importlib.util.find_spec("pydensecrf") is None:
        print("pydensecrf2 is not installed, so there is nothing to compare with: pip install pydensecrf2")
        return 1
    print(f"{'size':>9}  {'scan':<17}{'steps':>5}{'ours ms':>9}{'theirs ms':>11}{'ratio':>7}  same labels")
    for shape in SIZES:
        for kind, (colour, noise) in KINDS.items():
            saliency, image = speckled_scan(shape, colour=colour, noise=noise)
            for steps in (1, 5):
                settings = CRFSettings(iterations=steps)
                ours, theirs = [], []
                for _ in range(rounds + 1):
                    ms, our_marginal = timed(partial(dense_crf, saliency, image, settings=settings))
                    ours.append(ms)
                    ms, their_marginal = timed(partial(compiled, saliency, image, settings))
                    theirs.append(ms)
                ratio = statistics.median(b / a for a, b in zip(ours[1:], theirs[1:], strict=True))
                same = ((our_marginal > 0.5) == (their_marginal > 0.5)).mean()
                print(
                    f"{shape[0]:>4}x{shape[1]:<4}  {kind:<17}{steps:>5}{statistics.median(ours[1:]):>9.1f}"
                    f"{statistics.median(theirs[1:]):>11.1f}{ratio:>6.1f}x{100 * same:>11.2f} %",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

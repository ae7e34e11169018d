"""Augmentation of a scan's grey levels: contrast, gain, grain, blur, burnt-in marks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SPECKLED = ("breast", "fetal")  # ultrasound: its noise is multiplicative


def vary_intensities(
    x: Tensor, organ: str, rng: np.random.Generator, *, remap: float, change: float, noise: float, blur: float
) -> Tensor:
    """Pixels (R, R) in [0, 1] with another contrast, grain or sharpness; each change with its probability."""
    if organ == "brain" and rng.random() < remap:
        x = _other_contrast(x, rng)
    if rng.random() < change:
        x = x.clamp(min=1e-4) ** math.exp(rng.uniform(-0.45, 0.45))
        x = x * rng.uniform(0.7, 1.3) + rng.uniform(-0.08, 0.08) * (x > 0.02)
    if rng.random() < noise:
        grain = torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
        if rng.random() < 0.5:
            grain = functional.avg_pool2d(grain[None, None], 3, 1, 1)[0, 0] * 2
        speckled = organ in SPECKLED
        x = x * (1 + rng.uniform(0.05, 0.25) * grain) if speckled else x + rng.uniform(0.01, 0.06) * grain
    if rng.random() < blur:
        small = functional.avg_pool2d(x[None, None], 2)
        x = functional.interpolate(small, size=x.shape, mode="bilinear", align_corners=False)[0, 0]
    if rng.random() < 0.15:
        x = _burnt_in_mark(x, rng)
    return x.clamp(0, 1)


def uneven_gain(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Ultrasound is brighter here than there: gain by depth, the probe's contact, a soft shadow downwards."""
    field = rng.normal(0, 0.12, (1, 1, 4, 4)) + rng.normal(0, 0.2, (1, 1, 4, 1))
    gain = functional.interpolate(
        torch.from_numpy(field.astype(np.float32)), size=x.shape, mode="bicubic", align_corners=False
    )[0, 0].exp()
    if rng.random() < 0.25:
        h, w = x.shape
        columns, rows = torch.arange(w) / w, torch.arange(h) / h
        across = torch.exp(-(((columns - rng.random()) / rng.uniform(0.03, 0.12)) ** 2))
        down = torch.sigmoid((rows - rng.uniform(0.1, 0.7)) * 30)
        gain = gain * (1 - rng.uniform(0.3, 0.8) * down[:, None] * across[None])
    return x * gain


def _other_contrast(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Between MRI contrasts the order of the tissues changes: a random curve, black staying black."""
    knots = torch.tensor(np.concatenate([[0.0], rng.uniform(0.1, 1, 4)]), dtype=torch.float32)
    position = (x.clamp(0, 1) * 4).clamp(max=3.999)
    low = position.floor().long()
    return knots[low] + (knots[low + 1] - knots[low]) * (position - low)


def _burnt_in_mark(x: Tensor, rng: np.random.Generator) -> Tensor:
    """A calliper's cross: bright, thin, anywhere."""
    h, w = x.shape
    y0, x0, n = int(rng.integers(0, h - 20)), int(rng.integers(0, w - 20)), int(rng.integers(4, 12))
    x = x.clone()
    x[y0 : y0 + 2, x0 : x0 + n] = 1
    x[y0 - n // 2 if y0 > n else y0 : y0 + n // 2, x0 + n // 2 : x0 + n // 2 + 2] = 1
    return x

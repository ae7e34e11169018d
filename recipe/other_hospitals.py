"""Changes that another hospital's scans bring: other colours, fewer pixels, burnt-in letters."""

from __future__ import annotations

import math
import string

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

_LETTERS = string.ascii_letters + string.digits + " :.-/%"


def other_colours(x: Tensor, rng: np.random.Generator, *, grey: float) -> Tensor:
    """Pixels (3, R, R) in [0, 1] under another lamp and camera; without colour with the probability `grey`.

    Each channel has a gain of its own, and the colour as a whole more or less strength.
    """
    mean = x.mean(0, keepdim=True)
    if rng.random() < grey:
        return mean.expand_as(x).clone()
    strength = math.exp(rng.uniform(-0.5, 0.4))
    gains = torch.from_numpy(np.exp(rng.uniform(-0.18, 0.18, (3, 1, 1))).astype(np.float32))
    return ((mean + (x - mean) * strength) * gains).clamp(0, 1)


def fewer_pixels(x: Tensor, rng: np.random.Generator, *, least: int = 128) -> Tensor:
    """Pixels (..., R, R) as of a scan with fewer, from `least` on, enlarged again: bilinear or nearest."""
    side = x.shape[-1]
    small = round(math.exp(rng.uniform(math.log(min(least, side)), math.log(side))))
    planes = x.reshape(1, -1, side, side)
    shrunk = functional.interpolate(planes, size=(small, small), mode="bilinear", antialias=True)
    if rng.random() < 0.25:
        wide = functional.interpolate(shrunk, size=(side, side), mode="nearest")
    else:
        wide = functional.interpolate(shrunk, size=(side, side), mode="bilinear", align_corners=False)
    return wide.reshape(x.shape)


def lettering(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Pixels (..., R, R) with one to four short texts near their edges, as machines and clerks burn in."""
    side = x.shape[-1]
    layer = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(1, 5))):
        words = "".join(_LETTERS[k] for k in rng.integers(0, len(_LETTERS), int(rng.integers(2, 16))))
        along, inward = int(rng.integers(0, side)), int(abs(rng.normal(0, side / 12)))
        if rng.random() < 0.5:
            inward = side - 12 - inward
        place = (along, inward) if rng.random() < 0.7 else (inward, along)
        draw.text(place, words, fill=int(rng.integers(140, 256)), font=_font(int(rng.integers(7, 15))))
    ink = torch.from_numpy(np.asarray(layer).copy()).float() / 255
    return torch.maximum(x, ink.expand_as(x)) if rng.random() < 0.85 else x * (1 - ink)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

"""Augmentation of a sample: geometry in one resampling, and the views that SaLIP and gScoreCAM show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recipe.data import Sample
from recipe.other_hospitals import fewer_pixels, lettering, other_colours

SPECKLED = ("breast", "fetal", "thyroid")  # ultrasound: its noise is multiplicative


def vary_intensities(
    x: Tensor, organ: str, rng: np.random.Generator, *, remap: float, change: float, noise: float, blur: float
) -> Tensor:
    """Pixels (..., R, R) in [0, 1] with another contrast, grain or sharpness; each change with its probability."""
    if organ == "brain" and rng.random() < remap:
        x = _other_contrast(x, rng)
    if rng.random() < change:
        x = x.clamp(min=1e-4) ** math.exp(rng.uniform(-0.45, 0.45))
        x = x * rng.uniform(0.7, 1.3) + rng.uniform(-0.08, 0.08) * (x > 0.02)
    if rng.random() < noise:
        grain = torch.from_numpy(rng.standard_normal(x.shape).astype(np.float32))
        if rng.random() < 0.5:
            grain = functional.avg_pool2d(grain.reshape(1, -1, *x.shape[-2:]), 3, 1, 1).reshape(x.shape) * 2
        speckled = organ in SPECKLED
        x = x * (1 + rng.uniform(0.05, 0.25) * grain) if speckled else x + rng.uniform(0.01, 0.06) * grain
    if rng.random() < blur:
        small = functional.avg_pool2d(x.reshape(1, -1, *x.shape[-2:]), 2)
        x = functional.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False).reshape(x.shape)
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
    h, w = x.shape[-2:]
    y0, x0, n = int(rng.integers(0, h - 20)), int(rng.integers(0, w - 20)), int(rng.integers(4, 12))
    x = x.clone()
    x[..., y0 : y0 + 2, x0 : x0 + n] = 1
    x[..., y0 - n // 2 if y0 > n else y0 : y0 + n // 2, x0 + n // 2 : x0 + n // 2 + 2] = 1
    return x


SWAPPED = {f"{side} {organ}": f"{other} {organ}" for organ in ("lung", "kidney")
           for side, other in (("left", "right"), ("right", "left"))}  # fmt: skip
_SIDED = ("left", "right")


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random changes (fractions, radians, probabilities)."""

    zoom: tuple[float, float] = (0.8, 1.3)
    rotation: float = 0.26
    stretch: float = 0.12
    shift: float = 0.12
    flip: float = 0.5
    bend: float = 0.0
    bend_by: float = 0.018
    uneven_gain: float = 0.0
    intensity: float = 0.8
    remap_mri: float = 0.15
    noise: float = 0.3
    blur: float = 0.2
    view: float = 0.35
    tint: float = 0.0
    grey: float = 0.0
    coarse: float = 0.0
    letters: float = 0.0


@dataclass(frozen=True, eq=False)
class View:
    """A sample as the encoder is shown it once.

    Attributes:
        pixels: float32 (R, R) in [0, 1], of a sample in colour (3, R, R); what is masked out is the encoder's
            mean grey.
        masks: concept -> float32 (R / stride, R / stride): 0 to 1, or -1 for unknown (2 in the sample).
        visible: concept -> how much of the concept's area in the whole scan is still seen, 0 to 1.
        caption: the sentence, empty where the view makes it untrue.
    """

    pixels: Tensor
    masks: dict[str, Tensor]
    visible: dict[str, float]
    caption: str
    partial: bool


def _theta(
    rng: np.random.Generator, s: AugmentSettings, flip: bool, centre: tuple[float, float], zoom: float
) -> Tensor:
    """Affine from output to input coordinates in [-1, 1], around a centre of the input."""
    angle = rng.uniform(-s.rotation, s.rotation)
    sx = math.exp(rng.uniform(-s.stretch, s.stretch))
    scale_x, scale_y = (-1 if flip else 1) * sx / zoom, 1 / sx / zoom
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor(
        [[scale_x * cos, -scale_y * sin, centre[0]], [scale_x * sin, scale_y * cos, centre[1]]],
        dtype=torch.float32,
    )


def _target_box(sample: Sample, rng: np.random.Generator) -> tuple[float, float, float, float] | None:
    names = [n for n, m in sample.masks.items() if (m == 1).any()]
    if not names:
        return None
    ys, xs = np.nonzero(sample.masks[names[rng.integers(len(names))]] == 1)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


@dataclass(frozen=True)
class _Plan:
    """What a view will show: the affine map, what bends it, and how much is hidden afterwards."""

    theta: Tensor
    zoom: float
    flip: bool
    kind: str
    caption: str
    bend: Tensor | None = None


def augment(
    sample: Sample,
    resolution: int,
    rng: np.random.Generator,
    s: AugmentSettings,
    mean: float,
    *,
    plain: bool = False,
    mask_stride: int = 4,
) -> View:
    """One random view of a sample (or, `plain`, the sample itself).

    Args:
        sample: the scan in its square, with its masks.
        resolution: side R of the view's pixels.
        rng: every draw comes from it.
        s: ranges of the changes.
        mean: grey level of what is outside the scan.
        plain: no change at all.
        mask_stride: masks are made at R / stride; seven of them at full size cost as much as a network.
    """
    plan = _plan(sample, rng, s, plain)
    coarse = resolution // mask_stride
    masks, visible, inside = _masks(sample, plan, coarse)
    pixels = _pixels(sample, plan, resolution)
    if not plain:
        if s.uneven_gain and sample.organ in SPECKLED and pixels.ndim == 2 and rng.random() < s.uneven_gain:
            pixels = uneven_gain(pixels, rng)
        pixels = vary_intensities(
            pixels, sample.organ, rng, remap=s.remap_mri, change=s.intensity, noise=s.noise, blur=s.blur
        )
        pixels = _elsewhere(pixels, rng, s)
    pixels = torch.where(_enlarge(inside, resolution) > 0.5, pixels, torch.tensor(mean))
    if plan.kind in ("keep", "drop"):
        seen = _window(masks, plan.kind, coarse, rng)
        fill = mean if rng.random() < 0.7 else 0.0
        wide = _enlarge(seen, resolution)
        pixels = pixels * wide + fill * (1 - wide)
        for name, mask in masks.items():
            shown = mask.clamp(min=0)
            visible[name] *= float((shown * seen).sum() / (shown.sum() + 1e-6))
            masks[name] = torch.where(mask < 0, mask, mask * (seen > 0.5))
    if plan.flip:
        masks = {SWAPPED.get(n, n): m for n, m in masks.items()}
        visible = {SWAPPED.get(n, n): v for n, v in visible.items()}
    partial = plan.kind != "whole"
    return View(pixels, masks, visible, "" if partial else plan.caption, partial=partial)


def _elsewhere(pixels: Tensor, rng: np.random.Generator, s: AugmentSettings) -> Tensor:
    """What another hospital's machines would change.  A chance of 0 draws nothing: older recipes keep their batches."""
    if pixels.ndim == 3 and s.tint and rng.random() < s.tint:
        pixels = other_colours(pixels, rng, grey=s.grey)
    if s.coarse and rng.random() < s.coarse:
        pixels = fewer_pixels(pixels, rng)
    if s.letters and rng.random() < s.letters:
        pixels = lettering(pixels, rng)
    return pixels


def _plan(sample: Sample, rng: np.random.Generator, s: AugmentSettings, plain: bool) -> _Plan:
    if plain:
        return _Plan(torch.tensor([[1.0, 0, 0], [0, 1, 0]]), 1.0, False, "whole", sample.caption)
    flip, caption = bool(rng.random() < s.flip), sample.caption
    if flip and any(word in caption for word in _SIDED):
        if sample.organ == "chest":  # a mirrored chest is rarer than a mirrored head: half as often
            flip = bool(rng.random() >= 0.5)
        if flip:
            caption = _mirrored(caption)
    zoom, centre = float(rng.uniform(*s.zoom)), rng.uniform(-s.shift, s.shift, 2)
    kind, size = "whole", sample.image.shape[0]
    if rng.random() < s.view:
        kind = ("crop", "keep", "drop", "elsewhere")[int(rng.integers(4))]
    box = _target_box(sample, rng) if kind == "crop" else None
    if box is not None:
        x0, y0, x1, y1 = box
        zoom = float(np.clip(size / (max(x1 - x0, y1 - y0) * rng.uniform(1.05, 2.0)), 1.0, 8.0))
        centre = np.array([(x0 + x1) / size - 1, (y0 + y1) / size - 1])
    elif kind == "elsewhere":
        zoom, centre = float(rng.uniform(1.3, 4.0)), rng.uniform(-0.6, 0.6, 2)
    theta = _theta(rng, s, flip, (float(centre[0]), float(centre[1])), zoom)
    bend = _bend(rng, s.bend_by / zoom) if s.bend and rng.random() < s.bend else None
    return _Plan(theta, zoom, flip, kind, caption, bend)


def _bend(rng: np.random.Generator, by: float) -> Tensor:
    """A smooth displacement (1, 2, 5, 5), in half-widths of the input: elastic, as a probe presses tissue."""
    return torch.from_numpy(rng.normal(0, 2 * by, (1, 2, 5, 5)).astype(np.float32))


def _pixels(sample: Sample, plan: _Plan, resolution: int) -> Tensor:
    finer = 2 if sample.image.shape[0] >= 2 * resolution else 1  # then averaged: speckle must not alias
    planes = sample.image[None] if sample.image.ndim == 2 else sample.image.transpose(2, 0, 1)
    pixels = functional.avg_pool2d(_resample(planes.astype(np.float32) / 255, plan, finer * resolution), finer)
    return pixels[0] if sample.image.ndim == 2 else pixels


def _masks(sample: Sample, plan: _Plan, coarse: int) -> tuple[dict[str, Tensor], dict[str, float], Tensor]:
    """Masks (c, c) with -1 where unknown, how much of each is in view, and the scan's own area."""
    names = list(sample.masks)
    unknown = [n for n in names if (sample.masks[n] == 2).any()]
    planes = [sample.masks[n] == 1 for n in names] + [sample.masks[n] == 2 for n in unknown]
    out = _resample(np.stack([*planes, _valid(sample)]).astype(np.float32), plan, coarse)
    masks = {n: out[i] for i, n in enumerate(names)}
    scale = (plan.zoom * coarse / sample.image.shape[0]) ** 2
    visible = {
        n: min(1.0, float(m.sum()) / (scale * float((sample.masks[n] == 1).sum()) + 1e-6)) for n, m in masks.items()
    }
    for i, n in enumerate(unknown, start=len(names)):
        masks[n] = torch.where(out[i] > 0.5, torch.tensor(-1.0), masks[n])
    return masks, visible, out[-1]


def _window(masks: dict[str, Tensor], kind: str, coarse: int, rng: np.random.Generator) -> Tensor:
    """What stays seen, (c, c) in [0, 1]: a target, all but a target, or something that has no name."""
    if not masks:
        return _random_window(coarse, rng)
    name = list(masks)[int(rng.integers(len(masks)))]
    seen = _soft_window(masks[name].clamp(min=0), rng)
    return seen if kind == "keep" else 1 - seen


def _valid(sample: Sample) -> np.ndarray:
    """Bool (S, S): the scan inside its letterboxed square."""
    size = sample.image.shape[0]
    h, w = sample.valid
    top, left = (size - h) // 2, (size - w) // 2
    valid = np.zeros((size, size), bool)
    valid[top : top + h, left : left + w] = True
    return valid


def _resample(planes: np.ndarray, plan: _Plan, resolution: int) -> Tensor:
    """Planes (N, S, S) through a plan's map to (N, R, R), zero outside; the same map at every resolution."""
    side = (resolution, resolution)
    grid = functional.affine_grid(plan.theta[None], [1, 1, *side], align_corners=False)
    if plan.bend is not None:
        moved = functional.interpolate(plan.bend, size=side, mode="bicubic", align_corners=False)
        grid = grid + moved.permute(0, 2, 3, 1)
    return functional.grid_sample(
        torch.from_numpy(planes)[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]


def _enlarge(plane: Tensor, resolution: int) -> Tensor:
    return functional.interpolate(plane[None, None], size=(resolution,) * 2, mode="bilinear", align_corners=False)[0, 0]


def _mirrored(caption: str) -> str:
    return caption.replace("left", "\0").replace("right", "left").replace("\0", "right")


def _soft_window(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """The mask, grown by a random margin, with a soft edge: a proposal's crop or a channel's map."""
    grow = int(rng.integers(0, 6)) * 2 + 1
    small = functional.max_pool2d(mask[None, None], grow, 1, grow // 2)
    soft = int(rng.integers(0, 5)) * 2 + 1
    return functional.avg_pool2d(small, soft, 1, soft // 2, count_include_pad=False)[0, 0]


def _random_window(resolution: int, rng: np.random.Generator) -> Tensor:
    """A smooth random map, as a channel that has nothing to do with any target."""
    coarse = torch.from_numpy(rng.random((1, 1, 6, 6)).astype(np.float32))
    smooth = functional.interpolate(coarse, size=(resolution, resolution), mode="bicubic", align_corners=False)[0, 0]
    smooth = smooth - smooth.min()
    return smooth / smooth.max()

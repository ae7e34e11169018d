"""Lesions pasted into real scans: outlines that are known exactly, where the sets have boxes or nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recipe.data import Sample

UNKNOWN = 2
_KINDS = {
    "brain": ("glioma", "meningioma", "pituitary tumor"),
    "breast": ("malignant breast tumor", "benign breast tumor"),
}
_NAME = {"brain": "brain tumor", "breast": "breast tumor"}


def paste_lesion(
    image: NDArray[np.uint8], rng: np.random.Generator, *, darker: float = 0.35
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """A blob of another brightness somewhere inside the body, with its exact mask.

    The outline is an ellipse bent by smooth noise; inside, smooth and fine texture replace part of what was
    there; the edge is blurred by up to three pixels.  Brightness lies above or below its surroundings.

    Args:
        image: uint8 (S, S).
        rng: every draw comes from it.
        darker: how often the blob is darker than its surroundings.

    Returns:
        The new image and the mask (uint8 0 and 1), or None where the scan has no room.
    """
    size = image.shape[0]
    body = _interior(image)
    places = np.argwhere(body)
    if len(places) < 50:
        return None
    radius = size * float(np.exp(rng.uniform(np.log(0.025), np.log(0.14))))
    y, x = places[rng.integers(len(places))]
    reach = int(3 * radius) + 6
    window = (slice(max(0, y - reach), min(size, y + reach)), slice(max(0, x - reach), min(size, x + reach)))
    rows, columns = np.mgrid[window]
    shape = _blob(rows - y, columns - x, radius, rng) & ndimage.binary_dilation(body, iterations=6)[window]
    if shape.sum() < 60:
        return None
    before = image[window].astype(np.float32) / 255
    around = float(before[ndimage.binary_dilation(shape, iterations=5) & ~shape].mean())
    level = around + float(rng.choice([-1, 1], p=[darker, 1 - darker])) * float(rng.uniform(0.1, 0.5))
    level = float(np.clip(level, 0.02, 0.98))
    if abs(level - around) < 0.08:
        return None
    coarse = _noise(shape.shape, radius / 3, rng) * rng.uniform(0, 0.1)
    fine = _noise(shape.shape, float(rng.uniform(0.5, 1.5)), rng) * rng.uniform(0, 0.06)
    kept = rng.uniform(0.2, 0.8) * (before - ndimage.gaussian_filter(before, radius / 2))
    inside = level + coarse + fine + kept
    if rng.random() < 0.25:  # a rim or a core of its own
        core = ndimage.binary_erosion(shape, iterations=max(1, int(radius * rng.uniform(0.15, 0.5))))
        inside = np.where(core, inside + rng.uniform(-0.5, 0.5) * abs(level - around), inside)
    edge = ndimage.gaussian_filter(shape.astype(np.float32), float(rng.uniform(0.6, 3.0)))
    out, mask = image.copy(), np.zeros_like(image)
    out[window] = np.round(np.clip(before * (1 - edge) + inside * edge, 0, 1) * 255).astype(np.uint8)
    mask[window] = shape
    return out, mask


def with_lesion(sample: Sample, rng: np.random.Generator) -> Sample:
    """A brain or breast scan with one more tumour of unknown kind; as it was where there is no room."""
    pasted = paste_lesion(sample.image, rng, darker=0.35 if sample.organ == "brain" else 0.9)
    return sample if pasted is None else _with(sample, *pasted, kind=None)


def with_copied_lesion(sample: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """A scan with the donor's tumour, pixels and outline: turned, mirrored, resized, brightness matched.

    Copy-paste (Ghiasi et al., CVPR 2021), with a rim of the donor's tissue that fades into the scan.

    Args:
        sample: a scan of the organ that the donor shows.
        donor: has an exact mask of its organ's tumour.
        rng: every draw comes from it.

    Returns:
        The new sample, or `sample` where the tumour finds no room in the body.
    """
    mask = donor.masks[_NAME[donor.organ]] == 1
    ys, xs = np.nonzero(mask)
    margin = 0.25 * max(np.ptp(ys), np.ptp(xs)) + 4
    window = tuple(slice(max(0, int(v.min() - margin)), int(v.max() + margin) + 1) for v in (ys, xs))
    patch, shape = donor.image[window].astype(np.float32), mask[window].astype(np.float32)
    if rng.random() < 0.5:
        patch, shape = patch[:, ::-1], shape[:, ::-1]
    angle, zoom = rng.uniform(-20, 20), float(np.exp(rng.uniform(-0.4, 0.3)))
    patch = ndimage.zoom(ndimage.rotate(patch, angle, order=1, mode="nearest"), zoom, order=1)
    inside = ndimage.zoom(ndimage.rotate(shape, angle, order=1), zoom, order=1) > 0.5
    size = sample.image.shape[0]
    h, w = inside.shape
    places = np.argwhere(_interior(sample.image))
    if inside.sum() < 60 or h >= size or w >= size or len(places) < 50:
        return sample
    y, x = places[rng.integers(len(places))]
    top, left = int(np.clip(y - h // 2, 0, size - h)), int(np.clip(x - w // 2, 0, size - w))
    at = (slice(top, top + h), slice(left, left + w))
    before = sample.image[at].astype(np.float32)
    rim = ndimage.distance_transform_edt(~inside)
    reach = 0.15 * max(h, w) + 2
    alpha = np.clip(1 - rim / reach, 0, 1).astype(np.float32)
    alpha *= _fades_at_edge(h, w)
    ring = (rim > 0) & (rim < reach)
    gain = np.clip((before[ring].mean() + 8) / (patch[ring].mean() + 8), 0.5, 2.0)
    image, lesion = sample.image.copy(), np.zeros_like(sample.image)
    image[at] = np.round(np.clip(before * (1 - alpha) + gain * patch * alpha, 0, 255)).astype(np.uint8)
    lesion[at] = inside
    kinds = [k for k in _KINDS[donor.organ] if k in donor.masks]
    return _with(sample, image, lesion, kind=kinds[0] if len(kinds) == 1 else None)


def _fades_at_edge(height: int, width: int) -> NDArray[np.float32]:
    """1 inside a window, falling to 0 over its outermost pixels: a patch must not show its frame."""
    ys = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None]
    xs = np.minimum(np.arange(width), np.arange(width)[::-1])[None]
    return np.asarray(np.clip(np.minimum(ys, xs) / 4, 0, 1), np.float32)


def _with(sample: Sample, image: NDArray[np.uint8], lesion: NDArray[np.uint8], *, kind: str | None) -> Sample:
    """The sample with a lesion drawn into it; where `kind` is None, nothing is said of any kind."""
    masks, empty = dict(sample.masks), np.zeros_like(lesion)
    named = (_NAME[sample.organ], "tumor") + ((kind,) if kind else ())
    for name in named:
        masks[name] = np.where(lesion == 1, 1, masks.get(name, empty)).astype(np.uint8)
    for name in set(_KINDS[sample.organ]) & set(masks) - {kind}:
        masks[name] = np.where(lesion == 1, 0 if kind else UNKNOWN, masks[name]).astype(np.uint8)
    gone = set(named) if kind else {*named, *_KINDS[sample.organ]}
    return dataclasses.replace(sample, image=image, masks=masks, absent=frozenset(sample.absent - gone), caption="")


def _interior(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The body less its rim, bool (S, S): found at a quarter of the size."""
    small = ndimage.uniform_filter(image.astype(np.float32), 5)[::4, ::4]
    body = ndimage.binary_fill_holes(small > 0.35 * small.mean() + 4)
    body = ndimage.binary_erosion(body, iterations=max(2, small.shape[0] // 14))
    return np.kron(body, np.ones((4, 4), bool))[: image.shape[0], : image.shape[1]]


def _blob(y: NDArray[np.int64], x: NDArray[np.int64], radius: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """An ellipse bent by smooth noise, its largest piece."""
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.45, 0.45))
    u = (np.cos(angle) * x + np.sin(angle) * y) * stretch
    v = (np.cos(angle) * y - np.sin(angle) * x) / stretch
    distance = np.hypot(u, v) / radius
    bent = distance + _noise(y.shape, radius * float(rng.uniform(0.2, 0.6)), rng) * rng.uniform(0.0, 0.35)
    pieces, count = ndimage.label(bent < 1)
    if count == 0:
        return np.zeros(y.shape, np.bool_)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(pieces == sizes.argmax()))


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and deviation 1."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), max(sigma, 0.3))
    return np.asarray((smooth - smooth.mean()) / max(float(smooth.std()), 1e-6), np.float32)

"""Phantom volumes: a stack of slices of one patient with a lesion whose size in mm is known."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.phantom import Phantom
from lexiseg.datasets.phantoms.registry import generate
from lexiseg.errors import UsageError
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

_GRAIN = 0.02  # what noise a slice has of its own, a share of the range


@dataclass(frozen=True, eq=False)
class PhantomVolume:
    """A procedural volume, and where its target is.

    Attributes:
        scan: float32 (D, H, W) in [0, 1], axial slices from feet to head.
        modality: as of `generate`.
        phrase: of the target.
        target: exact bool (D, H, W); all False where the volume does not show it.
        diameter_mm: of the sphere as wide as the target in its middle slice, 0 without one.
        absent_phrases: things that are truly not in it.
    """

    scan: Volume
    modality: str
    phrase: str
    target: BoolArray
    diameter_mm: float
    absent_phrases: tuple[str, ...]


def generate_volume(
    modality: str,
    seed: int,
    *,
    slices: int = 24,
    size: int | tuple[int, int] = 192,
    spacing: tuple[float, float, float] = (5.0, 1.2, 1.2),
    target: bool = True,
    **attributes: str,
) -> PhantomVolume:
    """A phantom volume with the truth about it; the same arguments give the same bytes.

    The patient is a phantom of `generate`, drawn with the lesion and without it. Towards both ends of the stack the
    body becomes narrower. The lesion's cross-sections shrink as those of a sphere do: in slice k, which lies z mm
    from the middle of a lesion of radius r, by sqrt(1 - (z / r)^2). Each slice has a little noise of its own.

    Args:
        modality: one that is drawn with a lesion or without: not a chest X-ray, which always has its lungs.
        seed: as for `generate`.
        slices: at least 3.
        size: (H, W) of a slice, or both at once.
        spacing: mm along slice, row and column; positive.
        target: whether the lesion is shown.
        attributes: as for `generate`.

    Raises:
        UsageError: as `generate`; or a modality that always shows its target, too few slices, or a spacing that
            is none.

    Example:
        >>> made = generate_volume("brain-mri", 3, slices=8, size=64, plane="axial")
        >>> made.scan.shape, made.phrase, bool(made.target.any())
        ((8, 64, 64), 'brain tumor', True)
    """
    if slices < 3:
        raise UsageError(f"a phantom volume of {slices} slices is too small; ask for at least 3")
    if not all(np.isfinite(step) and step > 0 for step in spacing):
        raise UsageError(f"a phantom volume's spacing is {spacing}; expected mm above 0")
    without = generate(modality, seed, size=size, target=False, **attributes)
    if without.target.any():
        raise UsageError(f"{modality} phantoms always show {without.phrase!r}; choose another modality")
    shown = generate(modality, seed, size=size, target=True, **attributes) if target else without
    rng = np.random.default_rng([zlib.crc32(b"volume"), zlib.crc32(modality.encode()), seed])
    # The lesion's middle: never so near to an end that less than half of it is seen.
    middle = float(rng.uniform(0.35, 0.65)) * (slices - 1)
    lesion = _Lesion.of(shown, spacing) if target else None
    values, masks = [], []
    for k in range(slices):
        zoom = 1 - 0.3 * (2 * k / (slices - 1) - 1) ** 2
        picture, mask = without.scan.pixels, np.zeros(without.scan.shape, np.bool_)
        if lesion is not None:
            picture, mask = lesion.paint(picture, shown.scan.pixels, (k - middle) * spacing[0])
        picture = _narrowed(picture, zoom) + np.float32(_GRAIN) * rng.standard_normal(picture.shape, np.float32)
        values.append(np.clip(picture, 0, 1))
        masks.append(_narrowed(mask.astype(np.float32), zoom) > 0.5)
    stack = np.stack(values).astype(np.float32)
    return PhantomVolume(
        scan=Volume(
            stack,
            Geometry.of_spacing((slices, *without.scan.shape), spacing),
            id=f"{modality}-volume-{seed:05d}",
            notes={"origin": "procedural phantom"},
        ),
        modality=modality,
        phrase=shown.phrase,
        target=np.stack(masks),
        diameter_mm=2 * lesion.radius if lesion is not None else 0.0,
        absent_phrases=shown.absent_phrases,
    )


@dataclass(frozen=True, eq=False)
class _Lesion:
    """A lesion in a slice, to be shown smaller.

    Attributes:
        mask: bool (H, W).
        centre: (y, x) of its middle in pixels.
        radius: in mm, of a circle of its area.
    """

    mask: BoolArray
    centre: tuple[float, float]
    radius: float

    @classmethod
    def of(cls, shown: Phantom, spacing: tuple[float, float, float]) -> _Lesion:
        rows, columns = np.nonzero(shown.target)
        area = len(rows) * spacing[1] * spacing[2]
        return cls(shown.target, (float(rows.mean()), float(columns.mean())), float(np.sqrt(area / np.pi)))

    def paint(self, healthy: FloatArray, ill: FloatArray, away: float) -> tuple[FloatArray, BoolArray]:
        """A slice `away` mm from the lesion's middle: the picture, and the lesion's mask in it."""
        from scipy import ndimage

        share = 1 - (away / self.radius) ** 2
        if share <= 0.01:
            return healthy, np.zeros(self.mask.shape, np.bool_)
        scale = float(np.sqrt(share))
        mask = _scaled(self.mask.astype(np.float32), scale, self.centre) > 0.5
        # A soft seam of a pixel or two, as between any two tissues.
        seam = ndimage.gaussian_filter(mask.astype(np.float32), 0.7)
        picture: FloatArray = healthy + seam * (_scaled(ill, scale, self.centre) - healthy)
        return picture.astype(np.float32), mask


def _narrowed(picture: FloatArray, zoom: float) -> FloatArray:
    height, width = picture.shape
    return _scaled(picture, zoom, ((height - 1) / 2, (width - 1) / 2))


def _scaled(picture: FloatArray, scale: float, centre: tuple[float, float]) -> FloatArray:
    """A picture shown smaller about a point; what comes into view repeats the edge's darkest value."""
    from scipy import ndimage

    offset = [c - c / scale for c in centre]
    low = float(picture.min())
    found = ndimage.affine_transform(picture, [1 / scale] * 2, offset, order=1, mode="constant", cval=low)
    return np.asarray(found, np.float32)

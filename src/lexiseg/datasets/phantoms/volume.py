"""Phantom volumes: a stack of slices of one patient with a lesion whose size in mm is known."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lexiseg.datasets.phantoms.phantom import Draw, Modality, Phantom
from lexiseg.datasets.phantoms.registry import absent_phrases, check_attributes, generate, modality_of
from lexiseg.errors import UsageError
from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Volume

_GRAIN = 0.02  # what noise a slice has of its own, a share of the range


@dataclass(frozen=True, eq=False)
class PhantomVolume:
    """A procedural volume, and where its target is.

    Attributes:
        scan: float32 (D, H, W) in [0, 1], of CT in Hounsfield units; axial slices from feet to head.
        modality: as of `generate`.
        phrase: of the target.
        structures: exact bool (D, H, W) masks by phrase.
        diameter_mm: of the sphere as wide as the target in its middle slice, 0 without one.
        absent_phrases: things that are truly not in it.
    """

    scan: Volume
    modality: str
    phrase: str
    structures: Mapping[str, BoolArray]
    diameter_mm: float
    absent_phrases: tuple[str, ...]

    @property
    def target(self) -> BoolArray:
        """The mask of `phrase`, bool (D, H, W); all False where the volume does not show it."""
        found = self.structures.get(self.phrase)
        return np.zeros(self.scan.shape, np.bool_) if found is None else found


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

    A CT is one patient with organs at every level, and always shows its target.

    Any other patient is a phantom of `generate`, drawn with the lesion and without it. Towards both ends of the stack
    the body becomes narrower. The lesion's cross-sections shrink as those of a sphere do: in slice k, which lies z mm
    from the middle of a lesion of radius r, by sqrt(1 - (z / r)^2). Each slice has a little noise of its own.

    Args:
        modality: one with levels, or one that is drawn with a lesion or without: not a chest X-ray, which always
            has its lungs.
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
    kind = modality_of(modality)
    if kind.at_level is not None:
        return _of_levels(kind, seed, slices=slices, size=size, spacing=spacing, target=target, attributes=attributes)
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
        structures={shown.phrase: np.stack(masks)},
        diameter_mm=2 * lesion.radius if lesion is not None else 0.0,
        absent_phrases=shown.absent_phrases,
    )


def _of_levels(
    kind: Modality,
    seed: int,
    *,
    slices: int,
    size: int | tuple[int, int],
    spacing: tuple[float, float, float],
    target: bool,
    attributes: Mapping[str, str],
) -> PhantomVolume:
    """A patient whose organs are known at every level, from pelvis to lungs."""
    check_attributes(kind, attributes)
    if not target:
        raise UsageError(f"{kind.name} phantoms always show {kind.phrase!r}; choose another modality")
    assert kind.at_level is not None
    shape = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    made = []
    for level in np.linspace(-0.9, 0.9, slices):
        rng = np.random.default_rng([zlib.crc32(kind.name.encode()), seed])
        made.append(kind.at_level(Draw(rng=rng, shape=shape, present=True, forced=attributes), float(level)))
    names = dict.fromkeys(name for each in made for name in each.structures)
    nowhere = np.zeros(shape, np.bool_)
    return PhantomVolume(
        scan=Volume(
            np.stack([each.pixels for each in made]),
            Geometry.of_spacing((slices, *shape), spacing),
            id=f"{kind.name}-volume-{seed:05d}",
            unit="HU",
            notes={"origin": "procedural phantom"},
        ),
        modality=kind.name,
        phrase=kind.phrase,
        structures={name: np.stack([each.structures.get(name, nowhere) for each in made]) for name in names},
        diameter_mm=0.0,
        absent_phrases=absent_phrases(kind, names),
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

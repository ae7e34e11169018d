"""What a modality tells the registry about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lexiseg.values.arrays import BoolArray, FloatArray
from lexiseg.values.scans import Image


@dataclass(frozen=True, eq=False)
class Draw:
    """Source of all of a phantom's randomness.

    A forced attribute still uses up its random number, so that forcing one leaves all others as they were.

    Attributes:
        rng: the generator.
        shape: (H, W) of the phantom.
        present: whether the finding is to be shown.
        forced: attributes that the caller fixed.
    """

    rng: np.random.Generator
    shape: tuple[int, int]
    present: bool
    forced: Mapping[str, str]

    def choice(self, name: str, options: Sequence[str], weights: Sequence[float] | None = None) -> str:
        """One of `options`, with probability proportional to its weight, or the forced value of `name`."""
        share = np.asarray(weights if weights is not None else [1.0] * len(options), np.float64)
        drawn = options[int(self.rng.choice(len(options), p=share / share.sum()))]
        return self.forced.get(name, drawn)

    def pick(self, options: Sequence[str]) -> str:
        """One of `options`, all alike."""
        return options[int(self.rng.integers(len(options)))]

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < probability)

    def sign(self) -> float:
        """-1 or +1."""
        return 1.0 if self.rng.random() < 0.5 else -1.0


@dataclass(frozen=True, eq=False)
class Phantom:
    """A procedural scan, and what is in it.

    Attributes:
        scan: grey float32 (H, W) in [0, 1]; its id is "<modality>-<seed, five digits>".
        modality: one of `lexiseg.datasets.phantoms.registry.MODALITIES`.
        structures: exact bool (H, W) masks by phrase. Structures may overlap (a tumor lies in the brain). In
            chest X-rays left and right are the patient's: "left lung" is on the right of the image.
        attributes: what was drawn, in words; "size" and "place" are measured on the finding's mask, "place"
            is that in the image as displayed.
        caption: one sentence that is true of this scan.
        phrase: the phrase a user would type for this modality's usual target.
        absent_phrases: things that are truly not in this scan: wrong organs, and findings it does not show.
    """

    scan: Image
    modality: str
    structures: Mapping[str, BoolArray]
    attributes: Mapping[str, str]
    caption: str
    phrase: str
    absent_phrases: tuple[str, ...]

    @property
    def target(self) -> BoolArray:
        """The mask of `phrase`, bool (H, W); all False where the scan does not show it."""
        return self.mask(self.phrase)

    def mask(self, phrase: str) -> BoolArray:
        """The mask of a phrase, bool (H, W); all False where the scan does not show it.

        Raises:
            KeyError: `phrase` is neither a structure of this phantom nor one known to be absent from it, so
                nothing is known about it.
        """
        if phrase in self.structures:
            return self.structures[phrase]
        if phrase in self.absent_phrases:
            return np.zeros(self.scan.shape, np.bool_)
        known = ", ".join(self.structures)
        raise KeyError(f"nothing is known about {phrase!r} in {self.scan.id}, whose structures are {known}")


@dataclass(frozen=True, eq=False)
class Rendering:
    """A builder's result: `Phantom` without what the registry adds (id, modality, absent phrases)."""

    pixels: FloatArray
    structures: Mapping[str, BoolArray]
    attributes: Mapping[str, str]
    caption: str


@dataclass(frozen=True, eq=False)
class Modality:
    """A kind of phantom.

    Attributes:
        name: as in `generate(name, ...)`.
        build: draws one phantom.
        phrase: the usual target's phrase.
        options: attributes that a caller may fix, with the values allowed.
        findings: phrases that are absent from a scan unless they are among its structures.
        exclusive: phrases that no scan of another modality shows, save those that list them in `shows`.
        shows: phrases exclusive to other modalities that nevertheless are in every scan of this one.
        present: how often the finding is shown when the caller does not say.
        at_level: draws the same patient's slice at a level from -1 to 1, in Hounsfield units, of a new `Draw` of the
            same seed; None of kinds without levels.
    """

    name: str
    build: Callable[[Draw], Rendering]
    phrase: str
    options: Mapping[str, tuple[str, ...]]
    findings: tuple[str, ...]
    exclusive: tuple[str, ...]
    shows: frozenset[str] = field(default_factory=frozenset)
    present: float = 0.8
    at_level: Callable[[Draw, float], Rendering] | None = None

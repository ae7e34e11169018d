"""Chance with a memory for what the caller insisted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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

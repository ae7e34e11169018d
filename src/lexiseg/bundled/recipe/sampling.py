"""Which samples a batch is made of, and what is drawn into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.bundled.recipe.data import Sample
from lexiseg.bundled.recipe.lesions import with_copied_lesion, with_lesion


class Sampler:
    """Draws batches in which every source has its share, however large it is.

    Args:
        samples: all of them.
        shares: of a batch, by source; a phase may have its own.
    """

    def __init__(self, samples: Sequence[Sample], shares: Mapping[str, float]) -> None:
        self.samples, self.shares = samples, shares
        self.source = [s.source for s in samples]
        self.donors = {
            name: [i for i, s in enumerate(samples) if s.source == name and s.exact and "tumor" in s.masks]
            for name in set(self.source)
        }

    def batch(self, phase: Mapping[str, Any], rng: np.random.Generator) -> list[Sample]:
        """`phase["batch"]` samples without repetition, changed as the phase says."""
        chosen = rng.choice(len(self.samples), phase["batch"], replace=False, p=self._weights(phase))
        return [self._drawn(int(i), phase, rng) for i in chosen]

    def _weights(self, phase: Mapping[str, Any]) -> NDArray[np.float64]:
        shares = phase.get("shares", self.shares)
        weights = np.array([float(shares[name]) / self.source.count(name) for name in self.source])
        return np.asarray(weights / weights.sum())

    def _drawn(self, index: int, phase: Mapping[str, Any], rng: np.random.Generator) -> Sample:
        """A sample; as often as the phase says for its source, with one more tumour, exactly outlined."""
        sample = self.samples[index]
        copied, drawn = (phase.get(k, {}).get(sample.source, 0.0) for k in ("copied", "lesions"))
        if copied and rng.random() < copied:
            donors = self.donors[sample.source]
            return with_copied_lesion(sample, self.samples[donors[rng.integers(len(donors))]], rng)
        if drawn and (sample.masks or sample.source != "cheng") and rng.random() < drawn:
            return with_lesion(sample, rng)
        return sample

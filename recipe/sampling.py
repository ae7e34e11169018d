"""Which samples a batch is made of, and what is drawn into them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.data import Sample
from recipe.lesions import with_copied_lesion, with_lesion


def chances(sources: Sequence[str], shares: Mapping[str, float]) -> NDArray[np.float64]:
    """How likely each sample is drawn: sources have fixed shares of a batch, however large they are.

    Args:
        sources: of each of N samples.
        shares: of a batch, by source.

    Returns:
        float64 (N,), which add up to 1.
    """
    counts = Counter(sources)
    weights = np.array([float(shares[name]) / counts[name] for name in sources])
    return np.asarray(weights / weights.sum())


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
        chances_of = chances(self.source, phase.get("shares", self.shares))
        chosen = rng.choice(len(self.samples), phase["batch"], replace=False, p=chances_of)
        return [self._drawn(int(i), phase, rng) for i in chosen]

    def _drawn(self, index: int, phase: Mapping[str, Any], rng: np.random.Generator) -> Sample:
        """A sample; as often as the phase says for its source, with one more tumour, exactly outlined."""
        sample = self.samples[index]
        copied, drawn = (phase.get(k, {}).get(sample.source, 0.0) for k in ("copied", "lesions"))
        if copied and rng.random() < copied:
            donors = self.donors[sample.source]
            return with_copied_lesion(sample, self.samples[donors[rng.integers(len(donors))]], rng)
        if drawn and rng.random() < drawn:
            return with_lesion(sample, rng)
        return sample

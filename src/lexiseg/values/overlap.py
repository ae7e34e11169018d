"""How far two masks, or a map and a mask, overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.values.arrays import BoolArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Overlap:
    """Pixels (or voxels) of two masks of one grid.

    Attributes:
        both: in the first and the second; of a truth and a prediction the true positives, TP.
        first: in the first; of a truth TP + FN.
        second: in the second; of a prediction TP + FP.
    """

    both: int
    first: int
    second: int

    @classmethod
    def of(cls, first: BoolArray, second: BoolArray) -> Overlap:
        """Count.

        Args:
            first: bool, any shape.
            second: bool, the same shape.

        Raises:
            ValueError: the shapes differ; numpy would spread one of them over the other in silence.
        """
        if first.shape != second.shape:
            raise ValueError(f"the masks have shapes {first.shape} and {second.shape}, expected the same")
        return cls(int(np.count_nonzero(first & second)), int(np.count_nonzero(first)), int(np.count_nonzero(second)))

    @property
    def dice(self) -> tuple[int, int]:
        """Numerator and denominator of `dice`: sums of both over a set give its pooled value."""
        return 2 * self.both, self.first + self.second


def dice(first: BoolArray, second: BoolArray, *, empty: float = 1.0) -> float:
    r"""Dice similarity coefficient of two masks.

    .. math:: D = \frac{2 |A \cap B|}{|A| + |B|}

    No unit, 0 (disjoint) to 1 (equal). Counts are whole numbers and are divided once, so that the value does
    not depend on the order of a sum. Source: L. R. Dice, Ecology 26 (1945) 297-302.

    Args:
        first: bool, any shape.
        second: bool, the same shape.
        empty: what two empty masks score, where the formula is 0/0.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    above, below = Overlap.of(first, second).dice
    return above / below if below else empty


def soft_dice(values: Floats, mask: BoolArray) -> float:
    r"""Dice of a map and a mask: twice the map inside the mask, over all of the map and the mask.

    .. math:: D = \frac{2 \sum_{i \in M} p_i}{\sum_i p_i + |M|}

    No unit, 0 to 1; 0 where both are empty. Of probabilities it is the ratio of what numerator and denominator
    of Dice are expected to be. Summed in float64. Source: F. Milletari et al., V-Net, 3DV (2016) 565-571,
    without their squares.

    Args:
        values: 0 to 1, any shape.
        mask: bool, the same shape.

    Example:
        >>> soft_dice(np.array([0.5, 0.5, 0.0]), np.array([True, False, False]))
        0.5
    """
    total = float(values.sum(dtype=np.float64)) + float(mask.sum())
    return 2 * float(values[mask].sum(dtype=np.float64)) / total if total else 0.0


def expected_dice(probabilities: Sequence[Floats], masks: Sequence[BoolArray]) -> float:
    r"""The Dice that masks would have if probabilities were right, over all slices of a volume together.

    .. math:: D = \frac{2 \sum_s \sum_{i \in M_s} p_{si}}{\sum_s (\sum_i p_{si} + |M_s|)}

    This is `soft_dice` of the slices as one. Each slice is summed in the precision of its map, as it always
    was: which pieces of a student's mask are kept depends on the value to the bit.

    Args:
        probabilities: each 0 to 1, (H, W).
        masks: bool, as many, of the same shapes.

    Returns:
        0 to 1; 0 where all is empty.

    Raises:
        ValueError: there are not as many masks as maps.

    Example:
        >>> expected_dice([np.array([1.0, 0.0])], [np.array([True, True])])
        0.6666666666666666
    """
    inside = sum(float(p[m].sum()) for p, m in zip(probabilities, masks, strict=True))
    total = sum(float(p.sum()) + int(m.sum()) for p, m in zip(probabilities, masks, strict=True))
    return 2 * inside / total if total else 0.0


def overlap_coefficient(first: BoolArray, second: BoolArray) -> float:
    r"""What share of the smaller mask lies in the other.

    .. math:: O = \frac{|A \cap B|}{\min(|A|, |B|)}

    No unit, 0 (disjoint) to 1 (one holds the other); 0 where a mask is empty. Also called the
    Szymkiewicz-Simpson coefficient. Source: G. G. Simpson, American Journal of Science 241 (1943) 1-31.

    Args:
        first: bool, any shape.
        second: bool, the same shape.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> overlap_coefficient(np.array([True, True, False]), np.array([True, False, False]))
        1.0
    """
    found = Overlap.of(first, second)
    smaller = min(found.first, found.second)
    return found.both / smaller if smaller else 0.0

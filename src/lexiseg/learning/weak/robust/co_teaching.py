"""Co-teaching: two networks choose each other's scans."""

from __future__ import annotations

from torch import Tensor

from lexiseg.learning.weak.robust.small_loss import smallest


def exchange(first: Tensor, second: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """What each of two networks is trained on: the small-loss scans of the other.

    Networks that began differently do not make the same mistakes, so neither confirms its own. Source: B. Han
    et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018,
    algorithm 1.

    Args:
        first: losses of the first network, float (B,).
        second: losses of the second on the same scans.
        share: of the scans that are kept.

    Returns:
        Which scans the first and the second network are trained on, bool (B,) each.
    """
    return smallest(second, share), smallest(first, share)

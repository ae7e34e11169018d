"""Presence: how much speaks for a phrase being in a scan at all, as one number."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lexiseg.saliency.settings import PresenceSettings
from lexiseg.values.arrays import FloatArray

# Keeps log-odds finite: a probability of exactly 0 or 1 is a rounding, not a certainty.
_EDGE = 1e-7


def presence_score(evidence: Mapping[str, float], *, settings: PresenceSettings | None = None) -> float:
    r"""Presence in [0, 1] from a `Saliency`'s evidence.

    .. math:: p = p_d^{\,1 - g}\; p_g^{\,g}, \qquad \text{presence} = \sigma(a \operatorname{logit}(p) + b)

    with :math:`p_d` the evidence ``dense`` (mean of the dense probability's largest pixels) and :math:`p_g`
    the evidence ``global`` (``sigmoid(logit)`` for a sigmoid-trained encoder, the softmax of the phrase
    against its negative phrases for a softmax-trained one).  A geometric mean, since both must speak for the
    phrase.  Where only one of the two is there, it is p; the settings' weight then has no effect.  Where
    no kind of scan that can hold the target is in view, evidence ``kind`` is small, and presence is at most that.

    Returns:
        The presence, or NaN where there is neither: undefined is not absent.
    """
    settings = settings or PresenceSettings()
    dense, whole = evidence.get("dense"), evidence.get("global")
    if dense is None and whole is None:
        return math.nan
    if dense is None or whole is None:
        probability = dense if dense is not None else whole
        assert probability is not None
    else:
        probability = geometric_mean(dense, whole, settings.global_weight)
    return min(platt(probability, a=settings.a, b=settings.b), evidence.get("kind", 1.0))


def top_fraction_mean(probability: FloatArray, fraction: float = 0.01) -> float:
    """Mean of the largest `fraction` of a map's pixels (at least one): as evidence, steadier than the
    maximum.

    Args:
        probability: any shape, not empty.
        fraction: above 0 and at most 1.
    """
    values = probability.reshape(-1)
    count = max(1, round(fraction * values.size))
    return float(np.partition(values, values.size - count)[-count:].mean(dtype=np.float64))


def geometric_mean(first: float, second: float, weight: float) -> float:
    """``first ** (1 - weight) * second ** weight``; a weight of 0 or 1 leaves one of them out."""
    return float(first ** (1 - weight) * second**weight)


def platt(probability: float, *, a: float, b: float) -> float:
    """``sigmoid(a * logit(p) + b)``; a = 1 and b = 0 change nothing."""
    clipped = min(max(probability, _EDGE), 1 - _EDGE)
    log_odds = a * math.log(clipped / (1 - clipped)) + b
    return 0.5 * (1 + math.tanh(log_odds / 2))

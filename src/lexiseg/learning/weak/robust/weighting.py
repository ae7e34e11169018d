"""Weights by confidence."""

from __future__ import annotations

import numpy as np

from lexiseg.scans import FloatArray


def balanced(weights: FloatArray) -> FloatArray:
    """Weights with mean 1, so that weighting does not change the learning rate.

    The loss is sum_i w_i L_i / B, an importance reweighting in which w stands for how likely a label is
    right. Source: T. Liu, D. Tao, Classification with noisy labels by importance reweighting, IEEE TPAMI 38
    (2016) 447-461.

    Args:
        weights: float32 (N,), at least 0, not all 0.

    Returns:
        float32 (N,).
    """
    return np.asarray(weights / weights.mean(), np.float32)

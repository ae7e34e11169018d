"""Whether a saliency map says anything about where."""

from __future__ import annotations

import numpy as np

from lexiseg.scans.scan import FloatArray

FLAT_RANGE = 1e-6


def is_flat(saliency: FloatArray) -> bool:
    """True where the map, (H, W), spans less than 1e-6: it points nowhere, so no region may come from it."""
    return float(np.ptp(saliency)) < FLAT_RANGE

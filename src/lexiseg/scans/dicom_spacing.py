"""The distance between pixel centres of a DICOM image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CENTIMETRES = 3
_PROJECTED = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


def pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    """(row, column) spacing in mm, with a note on where it is from when that matters.

    Pixel Spacing first; then the detector's (without the magnification known, so larger than in the patient);
    then, for ultrasound, the one calibrated region's physical deltas.

    Args:
        dataset: a single-frame image's dataset.

    Returns:
        The spacing, None where the file does not say or says nonsense; and a note, "" for Pixel Spacing.
    """
    spacing = _positive(dataset.get("PixelSpacing"))
    if spacing:
        return spacing, ""
    for keyword in _PROJECTED:
        spacing = _positive(dataset.get(keyword))
        if spacing:
            return spacing, f"{keyword}: at the detector, not in the patient"
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    if len(regions) == 1:
        region = regions[0]
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        deltas = (region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX"))
        if units == (_CENTIMETRES, _CENTIMETRES) and None not in deltas:
            return _positive([10 * abs(float(delta)) for delta in deltas]), "ultrasound region calibration"
    return None, ""


def _positive(values: object) -> tuple[float, float] | None:
    try:
        row, column = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None

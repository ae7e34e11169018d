"""The size of a pixel of a DICOM image, from whichever field says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lexiseg.io.dicom_fields import integer_of, value_of

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
    spacing = _positive(value_of(dataset, "PixelSpacing"))
    if spacing:
        return spacing, ""
    for keyword in _PROJECTED:
        spacing = _positive(value_of(dataset, keyword))
        if spacing:
            return spacing, f"{keyword}: at the detector, not in the patient"
    regions = value_of(dataset, "SequenceOfUltrasoundRegions") or []
    if len(regions) == 1:
        region = regions[0]
        units = (integer_of(region, "PhysicalUnitsXDirection"), integer_of(region, "PhysicalUnitsYDirection"))
        deltas = _positive([value_of(region, "PhysicalDeltaY"), value_of(region, "PhysicalDeltaX")], size=True)
        if units == (_CENTIMETRES, _CENTIMETRES) and deltas:
            return (10 * deltas[0], 10 * deltas[1]), "ultrasound region calibration"
    return None, ""


def _positive(values: object, *, size: bool = False) -> tuple[float, float] | None:
    """Two lengths above 0, or their sizes; None of anything else."""
    try:
        row, column = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return None
    if size:
        row, column = abs(row), abs(column)
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None

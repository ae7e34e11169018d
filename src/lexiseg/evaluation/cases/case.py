"""What one system scores on one scan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lexiseg.evaluation.metrics import Emptiness


class Status(StrEnum):
    """What became of a prediction."""

    ok = "ok"
    missing = "missing"
    refused = "refused"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One system's scores on one scan.

    Attributes:
        id: the manifest's.
        group: the patient; the id where the manifest names none.
        strata: the values of the columns that are summarised by.
        status: missing and refused predictions have the worst scores.
        reason: why it is missing or refused, on one line; "" for "ok".
        values: each metric by its key; NaN where undefined.
        fractions: numerator and denominator of the metrics that can be pooled.
        emptiness: which mask is empty; None without a true mask, or a prediction.
        truth_size: of the true mask, in `size_unit`; NaN without one.
        predicted_size: of the predicted mask, likewise.
        size_unit: "px", "mm2", "voxels" or "mm3".
        truly_present: whether the target is in the scan.
        found: what the system said; None where it said nothing.
        presence: its evidence for that, 0 to 1; NaN where it gave none.
        confidence: its trust in its answer, 0 to 1; NaN where it gave none.
    """

    id: str
    group: str
    strata: Mapping[str, str] = field(default_factory=dict)
    status: Status = Status.ok
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    fractions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    emptiness: Emptiness | None = None
    truth_size: float = math.nan
    predicted_size: float = math.nan
    size_unit: str = ""
    truly_present: bool = True
    found: bool | None = None
    presence: float = math.nan
    confidence: float = math.nan

    @property
    def quality(self) -> float:
        """The metric by which cases are called good or bad: Dice, or box IoU where there is no true mask."""
        return self.values.get("dice", self.values.get("box_iou", math.nan))

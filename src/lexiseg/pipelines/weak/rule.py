"""Which pseudo-labels are learnt from, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lexiseg.errors import UsageError
from lexiseg.pipelines.runs import Row


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """What becomes of a scan, by its presence and confidence; no true mask is looked at.

    Attributes:
        confidence: scans below this are left out; the others weigh as much as their confidence.
        presence: scans in which the target was drawn with less presence than this are left out.
        absent: "keep" learns an empty mask from a scan in which the teacher found nothing, where its
            confidence (1 - presence) reaches `absent_confidence`; "drop" leaves such scans out, for targets
            that every scan has.
        absent_confidence: see `absent`.
    """

    confidence: float = 0.5
    presence: float = 0.0
    absent: str = "keep"
    absent_confidence: float = 0.7

    def __post_init__(self) -> None:
        for name in ("confidence", "presence", "absent_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if self.absent not in ("keep", "drop"):
            raise UsageError(f"absent is {self.absent!r}; expected keep or drop")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the record."""
        return asdict(self)

    def weight(self, rows: Sequence[Row]) -> float:
        """How much a scan counts; 0 where it is left out.

        Args:
            rows: of results.csv, one for each phrase. Of several the smallest weight holds: a scan with one
                wrong outline teaches that one too.
        """
        return min(self._of(row) for row in rows)

    def _of(self, row: Row) -> float:
        if not row.ok:
            return 0.0
        # Undefined: the encoder offers no absolute evidence, so there is nothing to weigh by.
        confidence, presence = _number(row.confidence, 1.0), _number(row.presence, 1.0)
        if row.present == "true":
            return confidence if confidence >= self.confidence and presence >= self.presence else 0.0
        kept = self.absent == "keep" and confidence >= self.absent_confidence
        return confidence if kept else 0.0


def _number(cell: str, undefined: float) -> float:
    try:
        value = float(cell)
    except ValueError:
        return undefined
    return undefined if math.isnan(value) else value

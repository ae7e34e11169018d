"""What the bundled models know and how well they draw it, as data: `lexiseg models describe`.  No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml


@dataclass(frozen=True, kw_only=True)
class PhraseScore:
    """How well a phrase is drawn on a kind of scan.

    Attributes:
        phrase: what was asked.
        measure: "Dice" or "box IoU".
        mean: over scans, 0 to 1.
        low: lower end of the 95 % interval of the mean, over patients; None where all scans are of one.
        high: upper end.
        scans: how many, of patients that were never trained on.
    """

    phrase: str
    measure: str
    mean: float
    scans: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        sure = "one patient" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.measure} {self.mean:.3f} ({sure}, {self.scans} scans)"


@dataclass(frozen=True, kw_only=True)
class KnownKind:
    """A kind of scan that the models know.

    Attributes:
        scan: its name.
        scores: of what was measured.
        known: other phrases that were taught; how well they are drawn was not measured.
    """

    scan: str
    scores: tuple[PhraseScore, ...]
    known: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """All kinds of scan, and how the scores were made.

    Attributes:
        date: of the measurement, ISO 8601.
        command: that printed the scores.
        kinds: by kind of scan.
    """

    date: str
    command: str
    kinds: tuple[KnownKind, ...]


@lru_cache(maxsize=1)
def bundled_description() -> Description:
    """What ships with the bundled models.

    Examples:
        >>> print(bundled_description().kinds[0].scan)
        breast ultrasound
    """
    source = (resources.files("lexiseg.bundled") / "scores.yaml").read_text(encoding="utf-8")
    fields: dict[str, Any] = yaml.safe_load(source)
    kinds = tuple(
        KnownKind(
            scan=each["scan"],
            scores=tuple(PhraseScore(**score) for score in each["scores"]),
            known=tuple(each["known"]),
        )
        for each in fields["kinds"]
    )
    return Description(date=str(fields["made"]["date"]), command=fields["made"]["command"], kinds=kinds)

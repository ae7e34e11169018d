"""How an evaluation is done."""

from __future__ import annotations

from dataclasses import dataclass, field

from lexiseg.errors import UsageError
from lexiseg.evaluation.metrics.catalogue import EmptyRule
from lexiseg.evaluation.statistics import Bootstrap


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What decides the numbers of an evaluation, besides the files.

    Attributes:
        tolerance: of NSD, in mm, or in pixels for scans without spacing.
        empty: the rule for empty masks.
        bootstrap: how intervals are made.
        by: columns of the manifest, each value of which is summarised by itself.
        absent: labels of scans that hold no target, for rows that have neither a mask nor a box.
        text: the phrase whose mask is scored, where runs asked for several; any of them when None.

    Raises:
        UsageError: a tolerance that is not positive, or fewer than one resample.
    """

    tolerance: float = 2.0
    empty: EmptyRule = EmptyRule.score
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    by: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    text: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise UsageError(f"the tolerance is {self.tolerance:g}; expected a distance above 0")
        if self.bootstrap.resamples < 1:
            raise UsageError(f"resamples is {self.bootstrap.resamples}; expected at least 1")

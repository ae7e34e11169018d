"""What came of an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.metrics.catalogue import Emptiness, in_order
from lexiseg.evaluation.presence import PresenceReport
from lexiseg.evaluation.settings import EvaluationSettings
from lexiseg.evaluation.statistics import Comparison, Summary
from lexiseg.evaluation.truths import Look

Stratum = tuple[str, str]
EVERYTHING: Stratum = ("", "")
"""The stratum of all cases; any other is a column of the manifest and one of its values."""


@dataclass(frozen=True)
class Unusable:
    """A manifest's row that no system is scored on.

    Attributes:
        id: the manifest's.
        reason: why, on one line.
    """

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class SystemEvaluation:
    """One system on all scans.

    Attributes:
        name: of the system, from its folder.
        folder: where its predictions are.
        cases: in the manifest's order, the same scans for every system.
        summaries: by stratum and metric; see `Summary`.
        presence: see `PresenceReport`, by stratum.
        others: names of masks of which the manifest knows nothing.
        look: what all its masks hold together.
    """

    name: str
    folder: Path
    cases: tuple[Case, ...]
    summaries: Mapping[Stratum, Mapping[str, Summary]]
    presence: Mapping[Stratum, PresenceReport]
    others: tuple[str, ...] = ()
    look: Look = field(default_factory=Look)

    def failed(self) -> list[Case]:
        """The cases whose prediction is missing or refused."""
        return [case for case in self.cases if case.status is not Status.ok]

    def counts(self, stratum: Stratum = EVERYTHING) -> dict[str, int]:
        """How many scans there are, and of each kind that a mean hides."""
        cases = members(self.cases, stratum)
        status = Counter(case.status for case in cases)
        empty = Counter(case.emptiness for case in cases if not case.unknown)
        return {
            "scans": len(cases),
            "groups": len({case.group for case in cases}),
            "scored": status[Status.ok],
            "missing": status[Status.missing],
            "refused": status[Status.refused],
            "unknown": sum(case.unknown for case in cases),
            "both_empty": empty[Emptiness.both],
            "only_truth_empty": empty[Emptiness.truth],
            "only_prediction_empty": empty[Emptiness.prediction],
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Systems on one manifest.

    Attributes:
        manifest: its name, without folders.
        rows: of the manifest, by id.
        systems: in the order they were given.
        comparisons: of every two systems in every metric, over all scans.
        unusable: rows that nobody is scored on.
        settings: what decided the numbers.
    """

    manifest: str
    rows: Mapping[str, ManifestRow]
    systems: tuple[SystemEvaluation, ...]
    comparisons: tuple[Comparison, ...]
    unusable: tuple[Unusable, ...]
    settings: EvaluationSettings

    @property
    def metrics(self) -> list[str]:
        """Keys of all metrics that any case has, in the order of tables."""
        return in_order({key for system in self.systems for case in system.cases for key in case.values})

    @property
    def strata(self) -> list[Stratum]:
        """All scans, then each value of each column that was asked for."""
        return list(self.systems[0].summaries)

    @property
    def complete(self) -> bool:
        """Whether every row was usable and every system answered it."""
        return not self.unusable and not any(system.failed() for system in self.systems)


def members(cases: tuple[Case, ...], stratum: Stratum) -> list[Case]:
    """The cases of a stratum, in order."""
    column, value = stratum
    return [case for case in cases if not column or case.strata[column] == value]

"""What a benchmark is: sets, prompts, systems and seeds, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lexiseg.datasets.manifest import ManifestRow
from lexiseg.errors import UsageError
from lexiseg.io.names import printable
from lexiseg.pipelines.preset import Preset

GENERIC, ORACLE = "generic", "oracle-class"
KINDS = (GENERIC, ORACLE)
"""Kinds of prompts: one phrase for a whole set; or one for each scan by its true label, which a user who
does not know the answer cannot type."""


@dataclass(frozen=True, kw_only=True)
class SuiteSet:
    """Scans to be segmented.

    Attributes:
        name: of the set; also a folder's.
        manifest: the CSV, relative to the data folder.
        about: one line for a person.
        part: "all", or "bundled-validation"; see `select_scans`.
        where: column -> the values of it that are taken; a row has to fit all columns.
        limit: at most so many scans, spread over the set; None for all.
        absent: labels of rows without mask and box that hold no target.
        generic: the phrase asked of every scan; "" for none.
        oracle: label -> the phrase that names it; none where labels say nothing of the target.
        contrasts: kind -> phrase, for the sensitivity to the text; the right phrase is `generic`.
    """

    name: str
    manifest: str
    about: str = ""
    part: str = "all"
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    absent: tuple[str, ...] = ()
    generic: str = ""
    oracle: Mapping[str, str] = field(default_factory=dict)
    contrasts: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of prompts that the set has."""
        return ((GENERIC,) if self.generic else ()) + ((ORACLE,) if self.oracle else ())

    def phrase(self, kind: str, row: ManifestRow) -> str:
        """What is asked of a scan.

        Raises:
            UsageError: the row's label has no phrase.
        """
        if kind == GENERIC:
            return self.generic
        if row.label not in self.oracle:
            raise UsageError(
                f"sets.{self.name}: {ORACLE} has no phrase for the label {printable(row.label)!r} of "
                f"{printable(row.id)}; expected among {', '.join(self.oracle)}"
            )
        return self.oracle[row.label]


@dataclass(frozen=True, kw_only=True)
class SuiteSystem:
    """A preset with its changes.

    Attributes:
        name: of the system; also a folder's.
        preset: as it is run.
        kinds: of prompts that it is asked; a system that does not look at the phrase needs one of them.
    """

    name: str
    preset: Preset
    kinds: tuple[str, ...] = KINDS


@dataclass(frozen=True, kw_only=True)
class SensitivityPlan:
    """Which systems are asked for something else than what is there, on at most `limit` scans of a set."""

    systems: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A benchmark.

    Attributes:
        name: for people.
        file: the YAML file's name.
        about: one line.
        sets: by name.
        systems: by name.
        seeds: each makes cells of its own.
        limit: at most so many scans of each set; None for all.
        tolerance: of NSD, in mm, or pixels where a scan has no spacing.
        resamples: of the bootstrap.
        save_stages: keep the saliency of each scan too, and score it.
        sensitivity: None where the suite does not ask for it.
    """

    name: str
    file: str
    about: str = ""
    sets: Mapping[str, SuiteSet]
    systems: Mapping[str, SuiteSystem]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    tolerance: float = 2.0
    resamples: int = 2000
    save_stages: bool = False
    sensitivity: SensitivityPlan | None = None

"""Lines of a leaderboard: what a cell's cases and reactions say together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lexiseg.benchmark.cells import Cell
from lexiseg.evaluation.cases import Case, Status
from lexiseg.evaluation.metrics.catalogue import in_order
from lexiseg.evaluation.presence import PresenceReport, report_presence
from lexiseg.evaluation.sensitivity import Reaction
from lexiseg.evaluation.statistics import Bootstrap, Summary, summarise


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell.

    Attributes:
        cell: which.
        scans: scored.
        groups: of the scans (patients).
        with_target: scans that hold the target.
        metric: the metric by which systems are ranked: "dice", or "box_iou" where there are no true masks.
        target: each metric over the scans that hold the target, where published numbers are taken.
        everything: each metric over all scans; an answer that is rightly empty scores 1.
        presence: None for a yardstick, which is told the truth.
        called_absent: scans with the target that were answered with "absent".
        drawn_in_absent: scans without the target in which something was drawn.
        missing: scans without a prediction (their run failed).
        refused: scans whose prediction cannot be used.
        seconds: the median for a scan; NaN where times are left out.
    """

    cell: Cell
    scans: int
    groups: int
    with_target: int
    metric: str
    target: Mapping[str, Summary]
    everything: Mapping[str, Summary]
    presence: PresenceReport | None
    called_absent: int
    drawn_in_absent: int
    missing: int
    refused: int
    seconds: float

    @property
    def yardstick(self) -> bool:
        """Whether the system is told the truth: an upper bound, never a result."""
        return self.presence is None

    @property
    def score(self) -> float:
        """The mean by which systems are ranked; NaN where there is none."""
        found = self.target.get(self.metric)
        return math.nan if found is None else found.mean


def make_entry(cell: Cell, cases: Sequence[Case], seconds: Sequence[float], bootstrap: Bootstrap) -> Entry:
    """Summarise a cell.

    Args:
        cell: which.
        cases: of the cell, at least one.
        seconds: of the scans; () leaves times out.
        bootstrap: how intervals are made.
    """
    hold = [case for case in cases if case.truly_present]
    empty = [case for case in cases if not case.truly_present]
    told = cell.system.preset.needs_truth
    return Entry(
        cell=cell,
        scans=len(cases),
        groups=len({case.group for case in cases}),
        with_target=len(hold),
        metric="dice" if any("dice" in case.values for case in cases) else "box_iou",
        target=_summaries(hold, bootstrap),
        everything=_summaries(cases, bootstrap),
        presence=None if told else report_presence(cases, bootstrap),
        called_absent=sum(case.found is False for case in hold),
        drawn_in_absent=sum(case.found is True for case in empty),
        missing=sum(case.status is Status.missing for case in cases),
        refused=sum(case.status is Status.refused for case in cases),
        seconds=statistics.median(seconds) if seconds else math.nan,
    )


def _summaries(cases: Sequence[Case], bootstrap: Bootstrap) -> dict[str, Summary]:
    found = {}
    for key in in_order({key for case in cases for key in case.values}):
        known = [case for case in cases if key in case.values]
        found[key] = summarise(
            [case.values[key] for case in known], [case.group for case in known], bootstrap=bootstrap
        )
    return found


@dataclass(frozen=True, kw_only=True)
class ReactionEntry:
    """What one kind of phrase changes, over the scans of a set.

    Attributes:
        cell: which.
        kind: why the phrase was asked; "right" for the right one.
        phrase: as it was asked.
        scans: that were asked.
        missing: scans that could not be asked.
        absent: share of answers "absent".
        presence: mean evidence.
        presence_change: mean of this phrase's evidence less the right one's.
        pearson: mean correlation of its saliency with the right one's.
        spearman: likewise, of ranks.
        map_change: mean absolute difference of the two maps.
    """

    cell: Cell
    kind: str
    phrase: str
    scans: int
    missing: int
    absent: Summary
    presence: Summary
    presence_change: Summary
    pearson: Summary
    spearman: Summary
    map_change: Summary


def make_reaction_entries(
    cell: Cell,
    reactions: Mapping[str, Sequence[Reaction]],
    groups: Mapping[str, str],
    *,
    missing: int,
    bootstrap: Bootstrap,
) -> list[ReactionEntry]:
    """Summarise a cell of sensitivity: a line for each kind of phrase, the right one first.

    Args:
        cell: which.
        reactions: by the scan's id; each scan's kinds are the same.
        groups: each scan's group, by id.
        missing: how many scans could not be asked.
        bootstrap: how intervals are made.
    """
    by_group = [groups[name] for name in reactions]
    entries = []
    for same in zip(*reactions.values(), strict=True):

        def over(value: Callable[[Reaction], float], asked: Sequence[Reaction] = same) -> Summary:
            return summarise([value(each) for each in asked], by_group, bootstrap=bootstrap)

        entries.append(
            ReactionEntry(
                cell=cell,
                kind=same[0].kind,
                phrase=same[0].phrase,
                scans=len(same),
                missing=missing,
                absent=over(lambda each: float(not each.present)),
                presence=over(lambda each: each.presence),
                presence_change=over(lambda each: each.presence_change),
                pearson=over(lambda each: each.pearson),
                spearman=over(lambda each: each.spearman),
                map_change=over(lambda each: each.map_change),
            )
        )
    return entries

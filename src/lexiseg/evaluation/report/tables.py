"""An evaluation's tables, each a header and rows of text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.presence import Measured
from lexiseg.evaluation.report.writing import NOTHING, Cell, Table, cells, number
from lexiseg.evaluation.results import EVERYTHING, Evaluation, Stratum, SystemEvaluation
from lexiseg.evaluation.statistics import Interval


def of_metric(key: str, value: float) -> str:
    """A metric's value: three decimals of a share, one of a distance."""
    return number(value, _digits(key))


def bounds(key: str, interval: Interval) -> str:
    """An interval of a metric; "" where there is none."""
    if math.isnan(interval.low):
        return ""
    # A dash beside a minus sign would be read wrongly.
    between = "–" if interval.low >= 0 else " to "
    return f"{of_metric(key, interval.low)}{between}{of_metric(key, interval.high)}"


def signed(key: str, value: float) -> str:
    """A difference of a metric, with its sign."""
    return number(value, _digits(key), signed=True)


def _digits(key: str) -> int:
    return 1 if metric_of(key).lower_is_better else 3


def p_value(value: float) -> str:
    """Three decimals, or that it is below."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def named(stratum: Stratum) -> str:
    """A stratum for people."""
    return "all scans" if stratum == EVERYTHING else f"{stratum[0]}: {stratum[1]}"


_IN_SHORT = ("dice", "iou", "nsd", "hd95", "box_iou", "saliency_auc")


def short_table(evaluation: Evaluation) -> Table:
    """Mean and interval of the metrics that are looked at first."""
    keys = [key for key in evaluation.metrics if key in _IN_SHORT or key.rpartition("_")[0] in _IN_SHORT]
    level, scans = f"{evaluation.settings.bootstrap.level:.0%}", len(evaluation.systems[0].cases)
    return replace(main_table(evaluation, keys=keys), title=f"mean over {scans} scans, {level} interval")


def main_table(evaluation: Evaluation, stratum: Stratum = EVERYTHING, *, keys: Sequence[str] | None = None) -> Table:
    """Mean and interval of each metric for each system; of some metrics where their keys are given."""
    every = evaluation.metrics if keys is None else keys
    keys = [key for key in every if any(key in s.summaries[stratum] for s in evaluation.systems)]
    columns = {key: _means(evaluation, stratum, key) for key in keys}
    rows = tuple(
        (Cell(system.name), *(columns[key][place] for key in keys)) for place, system in enumerate(evaluation.systems)
    )
    header = ("system", *(metric_of(key).title + _arrow(key) for key in keys))
    return Table(f"Mean per scan, {named(stratum)}", header, rows)


def detail_table(evaluation: Evaluation, system: SystemEvaluation) -> Table:
    """Everything that is summarised of a system's metrics over all scans."""
    rows = []
    for key, summary in ((key, system.summaries[EVERYTHING].get(key)) for key in evaluation.metrics):
        if summary is None:
            continue
        rows.append(
            (
                Cell(metric_of(key).title + _arrow(key)),
                Cell(str(summary.count), f"{summary.left_out} undefined" if summary.left_out else ""),
                Cell(of_metric(key, summary.mean), bounds(key, summary.interval)),
                Cell(of_metric(key, summary.median), bounds(key, summary.quartiles)),
                Cell(of_metric(key, summary.pooled), bounds(key, summary.pooled_interval)),
            )
        )
    level = f"{evaluation.settings.bootstrap.level:.0%}"
    header = ("metric", "scans", f"mean, {level} CI", "median, quartiles", f"pooled, {level} CI")
    return Table(system.name, header, tuple(rows))


def counts_table(evaluation: Evaluation, stratum: Stratum = EVERYTHING) -> Table:
    """What a mean hides: how many are missing, refused or empty."""
    header = ("system", "scans", "groups", "missing", "refused", "unknown phrase", "both empty",
              "drawn where nothing is", "empty where something is")  # fmt: skip
    rows = []
    for system in evaluation.systems:
        counts = system.counts(stratum)
        rows.append(
            cells(system.name, *(counts[name] for name in ("scans", "groups", "missing", "refused", "unknown",
                   "both_empty", "only_truth_empty", "only_prediction_empty")))
        )  # fmt: skip
    return Table("Counts", header, tuple(rows))


def presence_table(evaluation: Evaluation, stratum: Stratum = EVERYTHING) -> Table:
    """Presence as detection, and calibration."""
    header = ("system", "with target", "without", "unknown phrase", "AUROC", "sensitivity", "specificity",
              "calibration error of presence", "of confidence")  # fmt: skip
    rows = []
    for system in evaluation.systems:
        report = system.presence[stratum]
        rows.append(
            (
                *cells(system.name, report.with_target, report.without_target, report.no_finding),
                *(_measured(each) for each in (report.auroc, report.sensitivity, report.specificity)),
                *cells(number(report.error), number(report.confidence_error)),
            )
        )
    return Table("Presence", header, tuple(rows))


def threshold_table(evaluation: Evaluation, stratum: Stratum = EVERYTHING) -> Table:
    """What thresholds of presence would decide, of each system that gives one; no rows where none does."""
    header = ("system", "threshold", "sensitivity", "found, target present", "specificity", "empty, target absent")
    rows = [
        cells(
            system.name,
            f"{each.threshold:.1f}",
            number(each.sensitivity),
            f"{each.found} of {each.with_target}",
            number(each.specificity),
            f"{each.rejected} of {each.without_target}",
        )
        for system in evaluation.systems
        for each in system.presence[stratum].thresholds
    ]
    return Table("Presence by threshold", header, tuple(rows))


def comparison_table(evaluation: Evaluation) -> Table:
    """Every two systems in every metric."""
    header = ("metric", "first", "second", "scans (groups)", "mean difference", "first / second larger",
              "effect", "p", "p, Holm")  # fmt: skip
    order = {key: place for place, key in enumerate(evaluation.metrics)}
    rows = []
    for each in sorted(evaluation.comparisons, key=lambda each: order[each.metric]):
        rows.append(
            (
                *cells(metric_of(each.metric).title + _arrow(each.metric), each.first, each.second),
                Cell(f"{each.cases} ({each.groups})"),
                Cell(signed(each.metric, each.difference), bounds(each.metric, each.interval)),
                *cells(f"{each.first_larger} / {each.second_larger}", f"{each.effect:+.2f}"),
                Cell(p_value(each.p)),
                Cell(p_value(each.p_holm), best=each.p_holm < 1 - evaluation.settings.bootstrap.level),
            )
        )
    return Table("Systems in pairs", header, tuple(rows))


def failures_table(system: SystemEvaluation) -> Table:
    """A system's missing and refused predictions, by name."""
    rows = tuple(cells(case.id, case.status.value, case.reason) for case in system.failed())
    return Table(system.name, ("scan", "", "reason"), rows)


_MOST_NOTES = 40
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def notes_table(system: SystemEvaluation) -> Table:
    """What was decided on reading truths and predictions, and what the run noted; no rows where nothing was.

    Notes that differ in numbers alone are one row. Each scan's are in cases.csv.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for case in system.cases:
        for note in case.notes:
            found.setdefault(_NUMBER.sub("…", note), []).append((case.id, note))
    # What changes a mask first; of a run's notes the rarer ones first, which are those that matter.
    order = sorted(found, key=lambda kind: (kind.startswith("run: "), len(found[kind]), kind))
    rows = [
        cells(found[kind][0][1] if len({note for _, note in found[kind]}) == 1 else kind, len(found[kind]),
              ", ".join(name for name, _ in found[kind][:3]))
        for kind in order[:_MOST_NOTES]
    ]  # fmt: skip
    if len(order) > _MOST_NOTES:
        rows.append(cells(f"and {len(order) - _MOST_NOTES} more, in cases.csv", "", ""))
    return Table(system.name, ("note", "scans", "such as"), tuple(rows))


def _means(evaluation: Evaluation, stratum: Stratum, key: str) -> list[Cell]:
    found = [system.summaries[stratum].get(key) for system in evaluation.systems]
    texts = ["" if each is None else of_metric(key, each.mean) for each in found]
    means = [each.mean for each in found if each is not None and each.count]
    best = ""
    if len({of_metric(key, mean) for mean in means}) > 1:
        best = of_metric(key, min(means) if metric_of(key).lower_is_better else max(means))
    return [
        Cell(text or NOTHING, bounds(key, each.interval) if each else "", best=text == best and text != "")
        for text, each in zip(texts, found, strict=True)
    ]


def _measured(each: Measured) -> Cell:
    return Cell(number(each.value), bounds("dice", each.interval))


def _arrow(key: str) -> str:
    # A space that does not break, so that the arrow stays with its name.
    return "\u00a0↓" if metric_of(key).lower_is_better else "\u00a0↑"

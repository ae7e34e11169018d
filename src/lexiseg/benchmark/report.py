"""A leaderboard as tables and as a page of Markdown; equal ones, equal bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lexiseg.benchmark.leaderboard import Entry, Leaderboard, WordingEntry
from lexiseg.benchmark.suite import GENERIC, KINDS, ORACLE
from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.presence import Measured
from lexiseg.evaluation.report.writing import (
    NOTHING,
    Cell,
    Table,
    cells,
    escaped,
    markdown_table,
    number,
)
from lexiseg.evaluation.statistics import Interval, Summary


def score_table(leaderboard: Leaderboard, kind: str) -> Table:
    """All cells of a kind of prompt; the best system of each set is set off."""
    entries = [entry for entry in leaderboard.entries if entry.cell.kind == kind]
    seeds = len({entry.cell.seed for entry in leaderboard.entries}) > 1
    timed = any(not math.isnan(entry.seconds) for entry in entries)
    extra = [key for key in ("saliency_auc", "pointing") if any(key in entry.target for entry in entries)]
    header = ["set", "preset", *(["seed"] if seeds else []), "scans (with target)", "score",
              "mean, target present", "mean, all scans", "NSD", *(metric_of(key).title for key in extra),
              "presence AUROC", "called absent", "drawn though absent", "missing",
              *(["s / scan"] if timed else [])]  # fmt: skip
    best = _best(entries)
    rows = []
    for k, entry in enumerate(entries):
        cell = entry.cell
        without = entry.scans - entry.with_target
        rows.append(
            (
                Cell(cell.set.name),
                Cell(cell.system.name, "told the truth" if entry.yardstick else "", best=k in best),
                *(cells(cell.seed) if seeds else ()),
                Cell(str(entry.scans), str(entry.with_target)),
                Cell(metric_of(entry.metric).title),
                _with_interval(entry.target.get(entry.metric)),
                _with_interval(entry.everything.get(entry.metric)),
                Cell(_nsd(entry)),
                *(_mean(entry.target.get(key)) for key in extra),
                _measured(entry.presence.auroc) if entry.presence else Cell(NOTHING),
                *cells(
                    f"{entry.called_absent} of {entry.with_target}",
                    f"{entry.drawn_in_absent} of {without}" if without else NOTHING,
                    entry.missing + entry.refused,
                    *([number(entry.seconds, 2)] if timed else []),
                ),
            )
        )
    return Table(f"{leaderboard.suite.name}, prompts: {kind}", tuple(header), tuple(rows), words=2 + seeds)


def wording_table(leaderboard: Leaderboard) -> Table:
    """How far each kind of phrase moves the answer."""
    header = ("set", "preset", "asked for", "phrase", "scans", "absent", "presence", "change of presence",
              "Pearson", "Spearman", "change of map")  # fmt: skip
    rows = tuple(
        (
            *cells(entry.cell.set.name, entry.cell.system.name, entry.kind, entry.phrase),
            Cell(str(entry.scans), f"{entry.missing} missing" if entry.missing else ""),
            _share(entry),
            _mean(entry.presence),
            _with_interval(entry.presence_change, signed=True),
            _with_interval(entry.pearson),
            _with_interval(entry.spearman),
            _mean(entry.map_change),
        )
        for entry in leaderboard.wording
    )
    return Table(f"{leaderboard.suite.name}, sensitivity to the text", header, rows, words=4)


def leaderboard_tables(leaderboard: Leaderboard) -> Iterator[Table]:
    """A table for each kind of prompt that was asked, then the sensitivity to the wording."""
    for kind in KINDS:
        if any(entry.cell.kind == kind for entry in leaderboard.entries):
            yield score_table(leaderboard, kind)
    if leaderboard.wording:
        yield wording_table(leaderboard)


def _mean(summary: Summary | None) -> Cell:
    return Cell(NOTHING if summary is None else number(summary.mean))


def _with_interval(summary: Summary | None, *, signed: bool = False) -> Cell:
    if summary is None:
        return Cell(NOTHING)
    return Cell(number(summary.mean, signed=signed), _bounds(summary.interval, signed=signed))


def _bounds(interval: Interval, *, signed: bool = False) -> str:
    if math.isnan(interval.low):
        return ""
    return f"{number(interval.low, signed=signed)} to {number(interval.high, signed=signed)}"


def _measured(measured: Measured) -> Cell:
    return Cell(number(measured.value), "" if math.isnan(measured.value) else _bounds(measured.interval))


def _share(entry: WordingEntry) -> Cell:
    low, high = entry.absent.interval
    bounds = "" if math.isnan(low) else f"{low:.0%} to {high:.0%}"
    return Cell(NOTHING) if math.isnan(entry.absent.mean) else Cell(f"{entry.absent.mean:.0%}", bounds)


def _nsd(entry: Entry) -> str:
    return (
        "; ".join(
            f"{number(each.mean)} at {metric_of(key).title.partition(' at ')[2]}"
            for key, each in entry.target.items()
            if key.startswith("nsd_") and each.count
        )
        or NOTHING
    )


def _best(entries: Sequence[Entry]) -> frozenset[int]:
    """The first of each set, which entries are in order of; none where it stands alone or is a yardstick."""
    names = [entry.cell.set.name for entry in entries]
    rivals = [entry.cell.set.name for entry in entries if not entry.yardstick]
    return frozenset(
        k
        for k, name in enumerate(names)
        if (k == 0 or names[k - 1] != name)
        and rivals.count(name) > 1
        and not entries[k].yardstick
        and not math.isnan(entries[k].score)
    )


_KINDS = {
    GENERIC: "One phrase for the whole set: what somebody types who does not know the answer.",
    ORACLE: "One phrase for each scan, by its true label. Whoever types it knows the diagnosis already, as "
    "published prompts that name each image's tumor class do: these numbers say what that knowledge is "
    "worth, and are not to be compared with the generic ones.",
}


def to_markdown(leaderboard: Leaderboard) -> str:
    """All tables, and how they were made."""
    return "\n".join(_lines(leaderboard)) + "\n"


def _lines(leaderboard: Leaderboard) -> Iterator[str]:
    suite = leaderboard.suite
    yield f"# Leaderboard: {escaped(suite.name)}"
    yield ""
    if suite.about:
        yield from (escaped(suite.about), "")
    if leaderboard.command:
        yield from (f"    {leaderboard.command}", "")
    if leaderboard.date:
        yield from (f"Date: {escaped(leaderboard.date)}", "")
    named = ", ".join(f"{name} {value}" for name, value in leaderboard.versions.items() if value)
    yield f"Versions: {escaped(named)}. Ran on: {escaped(leaderboard.machine)}."
    yield ""
    yield (
        f"Means over scans with 95 % intervals: {suite.resamples} resamples of whole groups (patients). "
        "Ranked by the mean over scans that hold the target; over all scans, an answer that is rightly empty "
        "scores 1 and one that is wrongly drawn 0. A missing prediction scores the worst value."
    )
    yield ""
    yield from _scans(leaderboard)
    for kind in KINDS:
        if any(entry.cell.kind == kind for entry in leaderboard.entries):
            yield from ("", f"## Prompts: {kind}", "", _KINDS[kind], "")
            yield from _phrases(leaderboard, kind)
            yield from markdown_table(score_table(leaderboard, kind))
    yield from _wording(leaderboard)
    yield from _models(leaderboard)
    if leaderboard.notes or leaderboard.unusable:
        yield from ("", "## Not in the tables", "")
        yield from (f"- {escaped(note)}" for note in (*leaderboard.notes, *leaderboard.unusable))


def _scans(leaderboard: Leaderboard) -> Iterator[str]:
    rows = []
    for name, chosen in leaderboard.scans.items():
        total = f" of {chosen.available}" if chosen.available > len(chosen.rows) else ""
        count = f"{len(chosen.rows)}{total}"
        rows.append(cells(name, leaderboard.suite.sets[name].about, chosen.training, count))
    yield from ("## Scans", "")
    yield from markdown_table(Table("Scans", ("set", "", "training", "scans"), tuple(rows), words=3))


def _phrases(leaderboard: Leaderboard, kind: str) -> Iterator[str]:
    names = dict.fromkeys(entry.cell.set.name for entry in leaderboard.entries if entry.cell.kind == kind)
    for name in names:
        chosen = leaderboard.suite.sets[name]
        asked = [f"“{chosen.generic}”"]
        if kind == ORACLE:
            asked = [f"{label}: “{phrase}”" for label, phrase in chosen.oracle.items()]
        yield f"- {escaped(name)}: {escaped(', '.join(asked))}"
    yield ""


def _wording(leaderboard: Leaderboard) -> Iterator[str]:
    if not leaderboard.wording:
        return
    yield from (
        "",
        "## Does the answer depend on the words?",
        "",
        "Scans that hold the target, asked for it and for something else. Absent: the share of answers that "
        "nothing is there. Pearson and Spearman: correlation of the saliency with that of the right phrase, "
        "1 where the words change nothing; change of map: mean absolute difference of the two, 0 to 1.",
        "",
    )
    yield from markdown_table(wording_table(leaderboard))


def _models(leaderboard: Leaderboard) -> Iterator[str]:
    rows = tuple(
        cells(name, *(_weights(roles.get(role, {})) for role in ("encoder", "segmenter")))
        for name, roles in leaderboard.models.items()
    )
    yield from ("", "## Weights", "")
    yield from markdown_table(Table("Weights", ("preset", "encoder", "segmenter"), rows, words=3))


def _weights(model: dict[str, str]) -> str:
    digest = model.get("sha256", "")
    return model.get("name", "") + (f" (sha256 {digest[:12]})" if digest else "")

"""The leaderboard as a page of documentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lexiseg.benchmark.entries import Entry, ReactionEntry
from lexiseg.benchmark.leaderboard import Leaderboard
from lexiseg.benchmark.suite import GENERIC, KINDS, ORACLE
from lexiseg.evaluation.metrics.catalogue import metric_of
from lexiseg.evaluation.presence import Measured
from lexiseg.evaluation.statistics import Interval, Summary

NOTHING = "–"


@dataclass(frozen=True)
class TextTable:
    """A header and rows of text.

    Attributes:
        header: one text for each column.
        left: how many columns at the left hold words.
        rows: of texts.
        best: indices of the rows to be set off.
    """

    header: tuple[str, ...]
    left: int
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[int] = frozenset()


def score_table(leaderboard: Leaderboard, kind: str) -> TextTable:
    """All cells of a kind of prompt; the best system of each set is set off."""
    entries = [entry for entry in leaderboard.entries if entry.cell.kind == kind]
    seeds = len({entry.cell.seed for entry in leaderboard.entries}) > 1
    timed = any(not math.isnan(entry.seconds) for entry in entries)
    extra = [key for key in ("saliency_auc", "pointing") if any(key in entry.target for entry in entries)]
    header = ["set", "preset", *(["seed"] if seeds else []), "scans (with target)", "score",
              "mean, target present", "mean, all scans", "NSD", *(metric_of(key).title for key in extra),
              "presence AUROC", "called absent", "drawn though absent", "missing",
              *(["s / scan"] if timed else [])]  # fmt: skip
    rows = []
    for entry in entries:
        cell = entry.cell
        without = entry.scans - entry.with_target
        rows.append(
            (
                cell.set.name,
                cell.system.name + (" (told the truth)" if entry.yardstick else ""),
                *([str(cell.seed)] if seeds else []),
                f"{entry.scans} ({entry.with_target})",
                metric_of(entry.metric).title,
                with_interval(entry.target.get(entry.metric)),
                with_interval(entry.everything.get(entry.metric)),
                _nsd(entry),
                *(mean(entry.target.get(key)) for key in extra),
                _measured(entry.presence.auroc) if entry.presence else NOTHING,
                f"{entry.called_absent} of {entry.with_target}",
                f"{entry.drawn_in_absent} of {without}" if without else NOTHING,
                str(entry.missing + entry.refused),
                *([number(entry.seconds, 2)] if timed else []),
            )
        )
    return TextTable(tuple(header), 2 + seeds, tuple(rows), _best(entries))


def reaction_table(leaderboard: Leaderboard) -> TextTable:
    """How far each kind of phrase moves the answer."""
    header = ("set", "preset", "asked for", "phrase", "scans", "absent", "presence", "change of presence",
              "Pearson", "Spearman", "change of map")  # fmt: skip
    rows = tuple(
        (
            entry.cell.set.name,
            entry.cell.system.name,
            entry.kind,
            entry.phrase,
            str(entry.scans) + (f" ({entry.missing} missing)" if entry.missing else ""),
            _share(entry),
            mean(entry.presence),
            with_interval(entry.presence_change, signed=True),
            with_interval(entry.pearson),
            with_interval(entry.spearman),
            mean(entry.map_change),
        )
        for entry in leaderboard.reactions
    )
    return TextTable(header, 4, rows)


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A number's text; a dash for NaN, and no "-0.000"."""
    if math.isnan(value):
        return NOTHING
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def mean(summary: Summary | None) -> str:
    """A summary's mean."""
    return NOTHING if summary is None else number(summary.mean)


def with_interval(summary: Summary | None, *, signed: bool = False) -> str:
    """A summary's mean with its interval."""
    if summary is None:
        return NOTHING
    return number(summary.mean, signed=signed) + _bounds(summary.interval, signed=signed)


def _bounds(interval: Interval, *, signed: bool = False) -> str:
    if math.isnan(interval.low):
        return ""
    return f" ({number(interval.low, signed=signed)} to {number(interval.high, signed=signed)})"


def _measured(measured: Measured) -> str:
    return number(measured.value) + (_bounds(measured.interval) if not math.isnan(measured.value) else "")


def _share(entry: ReactionEntry) -> str:
    low, high = entry.absent.interval
    bounds = "" if math.isnan(low) else f" ({low:.0%} to {high:.0%})"
    return NOTHING if math.isnan(entry.absent.mean) else f"{entry.absent.mean:.0%}{bounds}"


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
    yield f"# Leaderboard: {_escaped(suite.name)}"
    yield ""
    if suite.about:
        yield from (_escaped(suite.about), "")
    if leaderboard.command:
        yield from (f"    {leaderboard.command}", "")
    if leaderboard.date:
        yield from (f"Date: {_escaped(leaderboard.date)}", "")
    named = ", ".join(f"{name} {value}" for name, value in leaderboard.versions.items() if value)
    yield f"Versions: {_escaped(named)}. Ran on: {_escaped(leaderboard.machine)}."
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
            yield from _table(score_table(leaderboard, kind))
    yield from _sensitivity(leaderboard)
    yield from _models(leaderboard)
    if leaderboard.notes or leaderboard.unusable:
        yield from ("", "## Not in the tables", "")
        yield from (f"- {_escaped(note)}" for note in (*leaderboard.notes, *leaderboard.unusable))


def _scans(leaderboard: Leaderboard) -> Iterator[str]:
    yield from ("## Scans", "", "| set | | scans | training |", "|---|---|---:|---|")
    for name, chosen in leaderboard.scans.items():
        about = leaderboard.suite.sets[name].about
        total = f" of {chosen.available}" if chosen.available > len(chosen.rows) else ""
        count = f"{len(chosen.rows)}{total}"
        yield f"| {_escaped(name)} | {_escaped(about)} | {count} | {_escaped(chosen.training)} |"


def _phrases(leaderboard: Leaderboard, kind: str) -> Iterator[str]:
    names = dict.fromkeys(entry.cell.set.name for entry in leaderboard.entries if entry.cell.kind == kind)
    for name in names:
        chosen = leaderboard.suite.sets[name]
        asked = [f"“{chosen.generic}”"]
        if kind == ORACLE:
            asked = [f"{label}: “{phrase}”" for label, phrase in chosen.oracle.items()]
        yield f"- {_escaped(name)}: {_escaped(', '.join(asked))}"
    yield ""


def _sensitivity(leaderboard: Leaderboard) -> Iterator[str]:
    if not leaderboard.reactions:
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
    yield from _table(reaction_table(leaderboard))


def _models(leaderboard: Leaderboard) -> Iterator[str]:
    yield from ("", "## Weights", "", "| preset | encoder | segmenter |", "|---|---|---|")
    for name, roles in leaderboard.models.items():
        cells = [_weights(roles.get(role, {})) for role in ("encoder", "segmenter")]
        yield f"| {_escaped(name)} | {' | '.join(map(_escaped, cells))} |"


def _weights(model: dict[str, str]) -> str:
    digest = model.get("sha256", "")
    return model.get("name", "") + (f" (sha256 {digest[:12]})" if digest else "")


def _table(table: TextTable) -> Iterator[str]:
    yield "| " + " | ".join(map(_escaped, table.header)) + " |"
    marks = ["---" if k < table.left else "---:" for k in range(len(table.header))]
    yield "|" + "|".join(marks) + "|"
    for k, row in enumerate(table.rows):
        cells = [_escaped(cell) for cell in row]
        if k in table.best:
            cells = [f"**{cell}**" if place == 1 else cell for place, cell in enumerate(cells)]
        yield "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    for character in "\\|<>*_`[]#":
        text = text.replace(character, f"\\{character}")
    return text

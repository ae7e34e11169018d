"""The leaderboard as a page of documentation."""

from __future__ import annotations

from collections.abc import Iterator

from lexiseg.suites.leaderboard import Leaderboard
from lexiseg.suites.suite import GENERIC, KINDS, ORACLE
from lexiseg.suites.tables import TextTable, reaction_table, score_table

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

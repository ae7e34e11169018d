"""The report as Markdown: the tables, for a pull request or a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from lexiseg.evaluation.evaluation import Evaluation
from lexiseg.evaluation.report.record import versions
from lexiseg.evaluation.report.tables import (
    Cell,
    Table,
    comparison_table,
    counts_table,
    detail_table,
    failures_table,
    main_table,
    presence_table,
)


def to_markdown(evaluation: Evaluation) -> str:
    """All tables, failures by name, and how it was measured."""
    return "\n".join(_lines(evaluation)) + "\n"


def _lines(evaluation: Evaluation) -> Iterator[str]:
    settings = evaluation.settings
    first = evaluation.systems[0]
    yield f"# {_escaped(' vs '.join(system.name for system in evaluation.systems))}"
    yield ""
    yield (
        f"{_escaped(evaluation.manifest)}: {len(first.cases)} scans of {first.counts()['groups']} groups; "
        f"lexiseg {versions()['lexiseg']}."
    )
    yield (
        f"Intervals: {settings.bootstrap.level:.0%}, {settings.bootstrap.resamples} resamples of whole "
        f"groups, seed {settings.bootstrap.seed}. Empty masks: rule “{settings.empty.value}”. "
        "Missing and refused predictions score the worst value."
    )
    for stratum in evaluation.strata:
        yield from _table(main_table(evaluation, stratum))
    yield from _table(counts_table(evaluation))
    yield from _table(presence_table(evaluation))
    if evaluation.comparisons:
        yield from _table(comparison_table(evaluation))
    for system in evaluation.systems:
        yield from _table(detail_table(evaluation, system))
    for system in evaluation.systems:
        if system.failed():
            table = failures_table(system)
            yield from _table(Table(f"{table.title}: missing and refused", table.header, table.rows))
    if evaluation.unusable:
        cells = tuple((Cell(row.id), Cell(row.reason)) for row in evaluation.unusable)
        yield from _table(Table("Rows without a usable truth", ("scan", "reason"), cells))


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield f"## {_escaped(table.title)}"
    yield ""
    yield "| " + " | ".join(map(_escaped, table.header)) + " |"
    yield "|" + "|".join(["---", *["---:"] * (len(table.header) - 1)]) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text) + (f" ({_escaped(cell.note)})" if cell.note else "")
    return f"**{text}**" if cell.best else text


def _escaped(text: str) -> str:
    for character in "\\|<>*_`[]#":
        text = text.replace(character, f"\\{character}")
    return text

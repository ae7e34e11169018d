"""A leaderboard at the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from lexiseg.suites import Leaderboard
from lexiseg.suites.suite import KINDS
from lexiseg.suites.tables import TextTable, reaction_table, score_table


def leaderboard_tables(leaderboard: Leaderboard) -> Iterator[Table]:
    """A table for each kind of prompt, then the sensitivity to the text."""
    for kind in KINDS:
        found = score_table(leaderboard, kind)
        if found.rows:
            yield _table(f"{leaderboard.suite.name}, prompts: {kind}", found)
    if leaderboard.reactions:
        yield _table(f"{leaderboard.suite.name}, sensitivity to the text", reaction_table(leaderboard))


def _table(title: str, found: TextTable) -> Table:
    table = Table(title=title, title_justify="left")
    for k, name in enumerate(found.header):
        table.add_column(name, justify="left" if k < found.left else "right", no_wrap=k < found.left)
    for k, row in enumerate(found.rows):
        # As Text: names may hold brackets, which rich would read as markup. An interval goes below its mean.
        cells = [
            Text(cell if place < found.left else cell.replace(" (", "\n(")) for place, cell in enumerate(row)
        ]
        table.add_row(*cells, style="bold" if k in found.best else "")
    return table

"""Tables of reports at the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from lexiseg.evaluation.report.writing import Table


def rich_table(table: Table) -> RichTable:
    """A report's table for the terminal: what goes with a number stands below it, in brackets."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left")
    for place, name in enumerate(table.header):
        words = place < table.words
        shown.add_column(name, justify="left" if words else "right", no_wrap=words)
    for row in table.rows:
        texts = []
        for place, cell in enumerate(row):
            note = f"{' ' if place < table.words else chr(10)}({cell.note})" if cell.note else ""
            # As Text: names may hold brackets, which rich would read as markup.
            texts.append(Text(cell.text + note, style="bold" if cell.best else ""))
        shown.add_row(*texts)
    return shown

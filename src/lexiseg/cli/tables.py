"""Results as tables for the terminal; imported when there is something to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lexiseg.evaluation.report.writing import Table as ReportTable
    from lexiseg.evaluation.retrieval import Retrieval
    from lexiseg.runs.demo import DemoReport


def demo_table(report: DemoReport) -> Table:
    """A line for each scan: what was asked, what was answered, and how well that fits the phantom's truth."""
    table = Table(title="phantom scans, segmented by text", title_justify="left")
    table.add_column("scan", no_wrap=True)
    table.add_column("phrase", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    for name in ("presence", "confidence", "Dice", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for exhibit, seconds in zip(report.exhibits, report.seconds, strict=True):
        found = exhibit.target
        truly = exhibit.truth is not None and bool(exhibit.truth.any())
        verdict = found.verdict
        table.add_row(
            exhibit.scan.id,
            found.phrase,
            f"{verdict}" if found.present == truly else f"[red]{verdict}[/red]",
            _number(found.presence),
            _number(found.confidence),
            _number(exhibit.dice),
            f"{seconds:.2f}",
        )
    return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def retrieval_table(found: Retrieval) -> Table:
    """A line for each measure: both directions with their spread over shuffles and their interval."""
    from lexiseg.evaluation.retrieval import DIRECTIONS

    title = f"{found.pairs} pairs, {found.captions} captions that differ"
    if found.shuffles > 1:
        title += f"; galleries of {found.gallery} dealt {found.shuffles} times, seed {found.seed}"
    table = Table(title=title, title_justify="left")
    table.add_column("measure", no_wrap=True)
    for direction in DIRECTIONS:
        table.add_column(direction, justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("by chance", justify="right", no_wrap=True)
    count = len(found.scores) // len(DIRECTIONS)
    for first, second in zip(found.scores[:count], found.scores[count:], strict=True):
        cells = []
        for each in (first, second):
            spread = "" if math.isnan(each.spread) else f" ± {100 * each.spread:.1f}"
            cells += [f"{100 * each.value:.1f}{spread}", _interval(each.interval)]
        table.add_row(first.measure, *cells, f"{100 * first.chance:.1f}")
    return table


def history_table(history: Sequence[Mapping[str, Any]], best: int) -> Table:
    """A line for each epoch of a fine-tuning run; the best is marked."""
    from lexiseg.evaluation.retrieval import DIRECTIONS

    table = Table(title="validation retrieval, % of queries", title_justify="left")
    columns = [f"{measure} {direction}" for measure in ("top-1", "top-2") for direction in DIRECTIONS]
    table.add_column("epoch", no_wrap=True)
    for name in ("loss", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    for row in history:
        epoch = "before" if row["epoch"] == 0 else f"{row['epoch']}{' *' if row['epoch'] == best else ''}"
        loss = "-" if math.isnan(row["loss"]) else f"{row['loss']:.4f}"
        table.add_row(epoch, loss, *(f"{100 * row[name]:.1f}" for name in columns))
    return table


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if math.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f}"


def rich_table(table: ReportTable) -> Table:
    """A report's table for the terminal: what goes with a number stands below it, in brackets."""
    shown = Table(title=table.title, title_justify="left")
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

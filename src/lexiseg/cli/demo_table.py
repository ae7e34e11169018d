"""The demonstration's outcome as a table."""

from __future__ import annotations

import math

from rich.table import Table

from lexiseg.pipelines.demo import DemoReport


def demo_table(report: DemoReport) -> Table:
    """A line for each scan: what was asked, what was answered, and how well that fits the phantom's truth."""
    table = Table(title="phantom scans, segmented by text", title_justify="left")
    table.add_column("scan", no_wrap=True)
    table.add_column("phrase", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    for name in ("presence", "confidence", "Dice", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for exhibit, seconds in zip(report.exhibits, report.seconds, strict=True):
        found = exhibit.finding
        truly = exhibit.truth is not None and bool(exhibit.truth.any())
        verdict = "present" if found.present else "absent"
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

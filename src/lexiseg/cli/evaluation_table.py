"""An evaluation's main table at the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from lexiseg.evaluation import Evaluation
from lexiseg.evaluation.metrics import metric_of
from lexiseg.evaluation.report.words import bounds, of_metric

_SHOWN = ("dice", "iou", "nsd", "hd95", "box_iou", "saliency_auc")


def evaluation_table(evaluation: Evaluation) -> Table:
    """A line for each system: the mean of the main metrics with its interval."""
    everything = evaluation.strata[0]
    keys = [key for key in evaluation.metrics if key in _SHOWN or key.rpartition("_")[0] in _SHOWN]
    level = f"{evaluation.settings.bootstrap.level:.0%}"
    count = len(evaluation.systems[0].cases)
    table = Table(title=f"mean over {count} scans, {level} interval", title_justify="left")
    table.add_column("system", no_wrap=True)
    for key in keys:
        table.add_column(metric_of(key).title, justify="right")
    for system in evaluation.systems:
        cells = []
        for key in keys:
            summary = system.summaries[everything].get(key)
            if summary is None:
                cells.append("-")
                continue
            interval = bounds(key, summary.interval)
            cells.append(of_metric(key, summary.mean) + (f"\n{interval}" if interval else ""))
        # As Text: a folder's name may hold brackets, which rich would read as markup.
        table.add_row(Text(system.name), *cells)
    return table

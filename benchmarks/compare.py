"""Two models or presets on the same scans: the mean difference in points, paired, 95 % over patients.

    python benchmarks/compare.py --before old.json --after new.json
    python benchmarks/compare.py --before old-0.json --before old-1.json --after new-0.json --after new-1.json

The reports are of benchmarks/quality.py --out; of several folds all scans are pooled, as by folds.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from common import TARGETS, interval, table_head, table_row
from folds import pooled

ROWS = {"mask": "final", "saliency": "map", "sam": "SAM by text", "true box": "SAM, true box"}
ROWS |= {"click": "SAM, one click", "click, mean": "mean of candidates"}


def difference(before: list[Any], after: list[Any], name: str, what: str) -> str:
    """What a set gained in one stage, in points: mean (low to high); nothing where it was not scored."""
    (old, patients, _), (new, same, _) = (pooled(reports, name, what) for reports in (before, after))
    if patients != same or len(old) != len(new):
        raise typer.BadParameter(f"{name}: the reports are not of the same scans")
    if not old:
        return ""
    points = [100 * (b - a) for a, b in zip(old, new, strict=True)]
    low, high = interval(points, patients)
    return f"{np.mean(points):+.1f} ({low:+.1f} to {high:+.1f})"


def main(
    before: Annotated[list[Path], typer.Option(help="report of the one, one a fold", exists=True, dir_okay=False)],
    after: Annotated[
        list[Path], typer.Option(help="report of the other, in the same order", exists=True, dir_okay=False)
    ],
) -> None:
    """Print what the other gains, by stage and set."""
    old, new = ([json.loads(path.read_text()) for path in paths] for paths in (before, after))
    names = [name for name in TARGETS if all(name in report for report in (*old, *new))]
    print(table_head(["in points, paired, 95 % over patients", *names]))
    for what, title in ROWS.items():
        print(table_row([title, *(difference(old, new, name, what) for name in names)]))


if __name__ == "__main__":
    typer.run(main)

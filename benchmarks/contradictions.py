"""What a set's own contradictions cost: scans that it holds nearly twice, with truths that disagree.

    python benchmarks/contradictions.py --data DIR/busi fold-*.json

DIR/busi is a set with true masks as benchmarks/quality.py reads it, the reports are its own (`--out`), one a
fold.  Two scans are copies where their grey levels, both shrunk to squares, correlate; their truths disagree
where their Dice is below `--agree`, or where one of the two is said to show nothing.  No mask is right
about both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from common import Row, scored_rows, table_head, table_row
from lexiseg.values.overlap import dice
from recipe.data import read_rows

SIDE = 96
"""Of the squares that scans and truths are compared as, pixels; a caption or a calliper is small there."""


def grey(row: Row, folder: Path) -> NDArray[np.float64]:
    """A scan as SIDE x SIDE grey levels of mean 0 and deviation 1, flat."""
    with Image.open(folder / row["image"]) as image:
        square = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float64)
    flat: NDArray[np.float64] = ((square - square.mean()) / max(1e-6, float(square.std()))).ravel()
    return flat


def truth(row: Row, folder: Path) -> NDArray[np.bool_]:
    """A scan's true mask, bool (SIDE, SIDE)."""
    with Image.open(folder / row["mask"]) as image:
        return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0


def contradicted(rows: Sequence[Row], folder: Path, alike: float, agree: float) -> dict[str, float]:
    """Scans with a target that a copy contradicts: id -> how the closest such copy correlates with it."""
    pixels = np.stack([grey(row, folder) for row in rows])
    correlation = pixels @ pixels.T / pixels.shape[1]
    found: dict[str, float] = {}
    for i, j in combinations(range(len(rows)), 2):
        if correlation[i, j] <= alike:
            continue
        targets = [row for row in (rows[i], rows[j]) if row["bbox"]]
        if not targets or (len(targets) == 2 and dice(*(truth(row, folder) for row in targets)) >= agree):
            continue
        for row in targets:
            found[row["id"]] = max(found.get(row["id"], 0.0), float(correlation[i, j]))
    return found


def main(
    reports: Annotated[
        list[Path],
        typer.Argument(help="of benchmarks/quality.py --out, one a fold", exists=True, dir_okay=False),
    ],
    *,
    data: Annotated[Path, typer.Option(help="the set's folder, named as in the reports", exists=True, file_okay=False)],
    alike: Annotated[list[float] | None, typer.Option(help="least correlation of copies; several are compared")] = None,
    agree: Annotated[float, typer.Option(help="least Dice of truths that agree")] = 0.3,
) -> None:
    """Print the final mask's mean with and without what a copy contradicts."""
    scores: dict[str, float] = {}
    for report in reports:
        found = json.loads(report.read_text())[data.name]
        rows = scored_rows(data, fold=found["fold"], wanted=lambda row: row["bbox"])
        scores |= zip((row["id"] for row in rows), found["each"]["mask"], strict=True)
    print(f"{len(scores)} scans of {data.name}: {np.mean([*scores.values()]):.4f}\n")
    print(table_head(["copies correlate above", "contradicted", "their mean", "the others' mean"]))
    levels = alike or [0.94]
    found_at = contradicted(read_rows(data), data, min(levels), agree)
    for least in levels:
        theirs = {name: score for name, score in scores.items() if found_at.get(name, 0.0) > least}
        others = [score for name, score in scores.items() if name not in theirs]
        mean = f"{np.mean([*theirs.values()]):.4f}" if theirs else ""
        print(table_row([least, len(theirs), mean, f"{np.mean(others):.4f}"]))
    print("\nOf the last row: " + ", ".join(f"{name} ({score:.2f})" for name, score in sorted(theirs.items())))


if __name__ == "__main__":
    typer.run(main)

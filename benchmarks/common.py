"""What the benchmarks share: which scans, how they are scored (as by `lexiseg evaluate`), how tables are printed."""

from __future__ import annotations

import platform
import random
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import lexiseg
from lexiseg.evaluation.metrics import classification
from lexiseg.evaluation.metrics.localisation import Box, score_boxes
from lexiseg.evaluation.statistics import Interval, summarise
from lexiseg.io.masks import read_mask
from lexiseg.regions.threshold import clean_mask
from lexiseg.values.arrays import BoolArray
from lexiseg.values.overlap import dice
from lexiseg.values.scans import Scan
from recipe.data import read_rows, split_rows

TARGETS = {
    "busi": "breast tumor",
    "cxr": "lungs",
    "hc18": "fetal head",
    "cheng": "brain tumor",
    "lgg": "brain tumor",
}
"""Each set's phrase. The bundled models were trained on all of them but lgg."""
progress = Console(stderr=True)
Row = Mapping[str, str]


def scored_rows(
    folder: Path, *, fold: int = 0, limit: int = 0, wanted: Callable[[Row], object] = lambda row: True
) -> list[dict[str, str]]:
    """The rows of a set that models of a fold never saw: its validation part; of lgg all.

    Args:
        folder: the set's.
        fold: which fifth of the patients the models never saw.
        limit: at most so many, by chance; 0 for all.
        wanted: which rows are taken, before the limit.
    """
    rows = read_rows(folder) if folder.name == "lgg" else split_rows(folder, validation=True, fold=fold)
    rows = [row for row in rows if wanted(row)]
    # By chance: every k-th row would be the same slice of each patient where all have as many.
    return random.Random(0).sample(rows, min(limit, len(rows))) if limit else rows


def boxes_of(row: Row) -> tuple[Box, ...]:
    """The true boxes, x0 y0 x1 y1 in pixels, end-exclusive."""
    parts = (part.split() for part in row["bbox"].split(";") if part.strip())
    return tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in parts)


def truth_of(row: Row, folder: Path, scan: Scan) -> BoolArray | None:
    """The true mask, bool (H, W); None where there is none."""
    return read_mask(folder / row["mask"], scan) if row["mask"] else None


def score(mask: BoolArray, row: Row, truth: BoolArray | None) -> float:
    """Dice with the true mask; where there are boxes alone, box IoU of the mask's largest piece.

    `lexiseg evaluate` takes the box of the whole mask.  Here one stray piece does not decide, as in all numbers of
    docs/lab so far.
    """
    return dice(mask, truth) if truth is not None else score_boxes(boxes_of(row), clean_mask(mask, keep="largest"))


def score_name(name: str) -> str:
    """What `score` is on a set."""
    return "box IoU" if name == "cheng" else "Dice"


def interval(values: Iterable[float], groups: Sequence[str]) -> Interval:
    """95 % bootstrap interval of the mean, whole groups resampled."""
    return summarise([float(value) for value in values], groups).interval


def auroc(pairs: Sequence[tuple[float, bool]]) -> float:
    """Area under the ROC curve of (presence, whether the target is there); NaN without both kinds."""
    scores, there = np.array([v for v, _ in pairs], np.float64), np.array([bool(t) for _, t in pairs], bool)
    return float(classification.auroc(scores, there)[0])


def made_with(*details: object) -> str:
    """Versions, date and whatever else a table was made with, on one line."""
    versions = f"lexiseg {lexiseg.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return ", ".join([versions, str(date.today()), *map(str, details)])


def table_head(columns: Sequence[str]) -> str:
    """The first two lines of a table in Markdown."""
    return f"{table_row(columns)}\n{'|---' * len(columns)}|"


def table_row(cells: Iterable[Any]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def peak_mib() -> float:
    """The most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

"""What a training tells: a table of its checks, and their curves as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from lexiseg.files import atomic_write

LOG, CURVES = "log.csv", "curves.png"


def write_log(history: Sequence[Mapping[str, float]], folder: Path, *, against: str) -> Path:
    """Write log.csv anew, a line for each check.

    Args:
        history: rows with equal keys.
        folder: where to.
        against: what the scores compare with, "pseudo-labels" or "true masks"; the column labels.

    Raises:
        UnwritableResult: the file system refused.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*history[0], "labels"])
    for row in history:
        table.writerow(["" if math.isnan(value) else f"{value:.6g}" for value in row.values()] + [against])
    return atomic_write(folder / LOG, lambda file: file.write(text.getvalue().encode()))


def draw_curves(history: Sequence[Mapping[str, float]], folder: Path, *, against: str) -> Path:
    """Draw loss and validation Dice by step as curves.png.

    Raises:
        UnwritableResult: the file system refused.
    """
    from matplotlib.figure import Figure

    steps = [row["step"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, [row["loss"] for row in history], lw=1)
    left.set(xlabel="step", ylabel="Dice loss + cross-entropy", title="training")
    right.plot(steps, [row["validation_dice"] for row in history], lw=1, marker=".")
    right.set(xlabel="step", ylabel="Dice", ylim=(0, 1), title=f"validation against {against}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        for before, row in pairwise(history):
            if row["cycle"] != before["cycle"]:
                axes.axvline(before["step"], color="grey", lw=0.8, ls=":")
    return atomic_write(folder / CURVES, lambda file: figure.savefig(file, format="png", dpi=120))

"""What a run tells: tables of steps and epochs, TensorBoard where it is installed, curves as a picture."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write

logger = logging.getLogger(__name__)

STEPS, EPOCHS, CURVES = "steps.csv", "epochs.csv", "curves.png"
_STEP_COLUMNS = ("step", "epoch", "loss", "rate", "gradient_norm")


class RunLog:
    """The folder of a run's log.

    Args:
        folder: made if missing.
        step: the step that the run goes on from; what an interrupted run wrote beyond it is dropped.

    Raises:
        UnwritableResult: the file system refused.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        self.folder = folder
        kept = [row for row in _rows(folder / STEPS) if int(row["step"]) < step] if step else []
        _write(folder / STEPS, _STEP_COLUMNS, kept)
        try:
            self._steps = (folder / STEPS).open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise UnwritableResult(f"{folder}: the log cannot be written ({error.strerror})") from error
        self._board = _board(folder / "tensorboard", step)

    def step(self, row: Mapping[str, float]) -> None:
        """Add a step, with the columns step, epoch, loss, rate and gradient_norm."""
        try:
            self._steps.write(",".join(_cell(row[name]) for name in _STEP_COLUMNS) + "\n")
            self._steps.flush()
        except OSError as error:
            raise UnwritableResult(
                f"{self.folder}: the log cannot be written ({error.strerror}); free some space and run again "
                "with --resume"
            ) from error
        if self._board is not None:
            for name in _STEP_COLUMNS[2:]:
                self._board.add_scalar(f"train/{name}", row[name], int(row["step"]))

    def epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the table of all epochs anew."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        _write(self.folder / EPOCHS, columns, history)
        if self._board is not None:
            last = history[-1]
            for name, value in last.items():
                if name not in ("epoch", "step"):
                    self._board.add_scalar(f"validation/{name}", value, int(last["step"]))
            self._board.flush()

    def draw(self, history: Sequence[Mapping[str, float]]) -> None:
        """Draw the curves so far."""
        draw_curves(_rows(self.folder / STEPS), history, self.folder / CURVES)

    def close(self) -> None:
        """Let go of the files."""
        self._steps.close()
        if self._board is not None:
            self._board.close()


def draw_curves(steps: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Loss by step and validation retrieval by epoch, as a PNG.

    Raises:
        UnwritableResult: the file system refused.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([int(row["step"]) + 1 for row in steps], [float(row["loss"]) for row in steps], lw=1)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    epochs = [row["epoch"] for row in history]
    for direction, colour in (("image to text", "tab:blue"), ("text to image", "tab:orange")):
        for measure, style in (("top-1", "-"), ("top-2", ":")):
            values = [row.get(f"{measure} {direction}", float("nan")) for row in history]
            right.plot(epochs, values, style, color=colour, marker=".", label=f"{measure}, {direction}")
    right.set(xlabel="epoch (0: before)", ylabel="share of queries", ylim=(0, 1), title="validation retrieval")
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            # A last line that a kill tore off has no gradient norm.
            return [row for row in csv.DictReader(stream) if row.get(_STEP_COLUMNS[-1])]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnwritableResult(f"{path}: it cannot be read ({error.strerror})") from error


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator=os.linesep)
    table.writerow(columns)
    table.writerows([_cell(row.get(name, "")) for name in columns] for row in rows)
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def _cell(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed: the log is in CSV alone")
        return None
    return SummaryWriter(str(folder), purge_step=step or None)

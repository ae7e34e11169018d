"""What a training tells: tables, curves as a picture, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.errors import UnwritableResult
from lexiseg.files import atomic_write

logger = logging.getLogger(__name__)

CURVES = "curves.png"


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, digits: int = 9) -> Path:
    """Write a CSV anew, in one step.

    Args:
        path: the file.
        columns: keys of the rows; a row without one has an empty cell there.
        rows: numbers and texts.
        digits: that are kept of a float.

    Raises:
        UnwritableResult: the file system refused.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(row.get(name, ""), digits) for name in columns] for row in rows)
    return atomic_write(path, lambda file: file.write(text.getvalue().encode()))


class StepTable:
    """A CSV with a line for each step, written as they are taken.

    Args:
        path: the file; made if missing.
        columns: the first is "step".
        below: the step that a training goes on from: what an interrupted one wrote of that and later steps
            is dropped.
        digits: that are kept of a float.

    Raises:
        UnwritableResult: the file system refused.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, below: int = 0, digits: int = 9) -> None:
        self._path, self._columns, self._digits = path, tuple(columns), digits
        write_table(path, columns, [row for row in self.rows() if int(row["step"]) < below], digits=digits)
        try:
            self._stream = path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise self._refused(error) from error

    def add(self, row: Mapping[str, float]) -> None:
        """Write a step's line.

        Raises:
            UnwritableResult: the file system refused.
        """
        try:
            self._stream.write(",".join(_cell(row[name], self._digits) for name in self._columns) + "\n")
            self._stream.flush()
        except OSError as error:
            raise self._refused(error) from error

    def rows(self) -> list[dict[str, str]]:
        """What is written so far; not a last line that a kill tore off."""
        try:
            with self._path.open(newline="", encoding="utf-8") as stream:
                return [row for row in csv.DictReader(stream) if row.get(self._columns[-1])]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnwritableResult(f"{self._path}: it cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def _refused(self, error: OSError) -> UnwritableResult:
        return UnwritableResult(
            f"{self._path}: the log cannot be written ({error.strerror}); free some space and run again with --resume"
        )


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a panel.

    Attributes:
        x, y: its points.
        style: matplotlib's keyword arguments: "linestyle", "color", "marker", "label", ...
    """

    x: Sequence[float]
    y: Sequence[float]
    style: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        curves: its lines.
        axes: of `Axes.set`: "title", "xlabel", "ylabel", "ylim".
        marks: where dotted vertical lines stand.
    """

    curves: Sequence[Curve]
    axes: Mapping[str, Any]
    marks: Sequence[float] = ()


def draw_panels(path: Path, panels: Sequence[Panel]) -> Path:
    """Draw panels side by side, as a PNG.

    Raises:
        UnwritableResult: the file system refused.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        for curve in panel.curves:
            axes.plot(curve.x, curve.y, **{"lw": 1, **curve.style})
        axes.set(**panel.axes)
        axes.grid(alpha=0.3)
        for mark in panel.marks:
            axes.axvline(mark, color="grey", lw=0.8, ls=":")
        if any("label" in curve.style for curve in panel.curves):
            axes.legend(fontsize=7)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))


def open_board(folder: Path, *, step: int) -> Any:
    """TensorBoard's writer; None where it is not installed.

    Args:
        folder: of its files.
        step: that a training goes on from; what was written of later ones is hidden.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed: the log is in CSV alone")
        return None
    return SummaryWriter(str(folder), purge_step=step or None)


def _cell(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)

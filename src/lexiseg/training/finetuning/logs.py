"""What a run tells: tables of steps and epochs, their curves, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.training.logs import CURVES, Curve, Panel, StepTable, draw_panels, open_board, write_table

Row = dict[str, float]
STEPS, EPOCHS = "steps.csv", "epochs.csv"
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
        self._steps = StepTable(folder / STEPS, _STEP_COLUMNS, below=step)
        self._board = open_board(folder / "tensorboard", step=step)

    def step(self, row: Mapping[str, float]) -> None:
        """Add a step, with the columns step, epoch, loss, rate and gradient_norm."""
        self._steps.add(row)
        if self._board is not None:
            for name in _STEP_COLUMNS[2:]:
                self._board.add_scalar(f"train/{name}", row[name], int(row["step"]))

    def epoch(self, history: Sequence[Row]) -> None:
        """Write the table of all epochs anew."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        write_table(self.folder / EPOCHS, columns, history)
        if self._board is not None:
            last = history[-1]
            for name, value in last.items():
                if name not in ("epoch", "step"):
                    self._board.add_scalar(f"validation/{name}", value, int(last["step"]))
            self._board.flush()

    def draw(self, history: Sequence[Row]) -> None:
        """Draw loss by step and validation retrieval by epoch."""
        steps = self._steps.rows()
        loss = Curve(x=[int(row["step"]) + 1 for row in steps], y=[float(row["loss"]) for row in steps], style={})
        epochs = [row["epoch"] for row in history]
        found = [
            Curve(
                x=epochs,
                y=[row.get(f"{measure} {direction}", float("nan")) for row in history],
                style={
                    "linestyle": line, "color": colour, "marker": ".", "label": f"{measure}, {direction}", "lw": 1.5
                },
            )
            for direction, colour in (("image to text", "tab:blue"), ("text to image", "tab:orange"))
            for measure, line in (("top-1", "-"), ("top-2", ":"))
        ]  # fmt: skip
        left = {"xlabel": "step", "ylabel": "loss", "title": "training loss"}
        right = {"xlabel": "epoch (0: before)", "ylabel": "share of queries", "title": "validation retrieval"}
        draw_panels(
            self.folder / CURVES,
            [Panel(curves=[loss], axes=left), Panel(curves=found, axes={**right, "ylim": (0, 1)})],
        )

    def close(self) -> None:
        """Let go of the files."""
        self._steps.close()
        if self._board is not None:
            self._board.close()

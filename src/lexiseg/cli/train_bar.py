"""A training's progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lexiseg.cli.terminal import shown_on, talk

if TYPE_CHECKING:
    from lexiseg.learning.weak import TrainProgress


@contextmanager
def train_bar(*, quiet: bool) -> Iterator[Callable[[TrainProgress], None]]:
    """A callback for a training's progress, shown as a bar with loss, score and time left while inside."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = talk()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[values]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bars, shown_on(console):
        task = bars.add_task("loading", total=None, values="")
        stage = ""

        def tell(progress: TrainProgress) -> None:
            nonlocal stage
            if progress.stage != stage:
                # Another stage counts other things: its time left must not be guessed from the last one's.
                stage = progress.stage
                bars.reset(task, description=stage, total=progress.total)
            loss = "" if math.isnan(progress.loss) else f"loss {progress.loss:.3f}"
            score = "" if math.isnan(progress.score) else f"Dice {progress.score:.3f}"
            bars.update(
                task,
                completed=progress.done,
                total=progress.total,
                values="  ".join(filter(None, (loss, score))),
            )

        yield tell

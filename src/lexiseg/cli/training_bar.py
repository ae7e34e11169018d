"""The bar of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lexiseg.cli.terminal import shown_on, talk

if TYPE_CHECKING:
    from lexiseg.learning import FinetuneProgress


@contextmanager
def training_bar(*, quiet: bool) -> Iterator[Callable[[FinetuneProgress], None]]:
    """A callback for a fine-tuning run's progress, shown as one bar while inside."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = talk()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bars, shown_on(console):
        task, stage = bars.add_task("loading the encoder", total=None), ""

        def tell(progress: FinetuneProgress) -> None:
            nonlocal stage
            if progress.stage != stage:  # another count: the time left is another too
                stage = progress.stage
                bars.reset(task)
            words = [{"reading": "reading images", "measuring": "measuring retrieval"}.get(stage, "")]
            if stage == "training":
                words = [f"epoch {progress.epoch}", f"loss {progress.loss:.3f}"]
            if math.isfinite(progress.top1):
                words.append(f"top-1 {progress.top1:.1%}")
            bars.update(task, description="  ".join(words), completed=progress.done, total=progress.total)

        yield tell

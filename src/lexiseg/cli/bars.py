"""Progress bars on standard error; nothing at all where it is no terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lexiseg.cli.terminal import shown_on, talk

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from lexiseg.runs.values import RunProgress
    from lexiseg.training.finetuning.finetune import FinetuneProgress
    from lexiseg.training.students.train import TrainProgress


Fetched = Callable[[str, int, int], None]


@contextmanager
def _bars(*columns: ProgressColumn, quiet: bool, transient: bool = True) -> Iterator[Progress]:
    """Bars of these columns after what is done and how far, shown while inside."""
    from rich.progress import BarColumn, Progress, TextColumn

    console = talk()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=console,
        transient=transient,
        disable=quiet or not console.is_terminal,
    )
    with bars, shown_on(console):
        yield bars


@contextmanager
def _counting(what: str, *, quiet: bool, style: str = "none") -> Iterator[tuple[Progress, TaskID]]:
    """One bar with how many of how many, the task's field `note`, and the time left."""
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

    note = TextColumn("{task.fields[note]}", style=style, markup=False)
    with _bars(MofNCompleteColumn(), note, TimeRemainingColumn(), quiet=quiet) as bars:
        yield bars, bars.add_task(what, total=None, note="")


@contextmanager
def run_bar(*, quiet: bool) -> Iterator[tuple[Callable[[RunProgress], None], Fetched]]:
    """Callbacks for a run's progress and for downloads, shown as bars with the time left while inside."""
    with _counting("loading the models", quiet=quiet, style="red") as (bars, task):

        def tell(progress: RunProgress) -> None:
            bars.update(
                task,
                description=_short(progress.scan),
                completed=progress.done,
                total=progress.total,
                note=f"{progress.failed} failed" if progress.failed else "",
            )

        yield (
            tell,
            lambda file, done, total: bars.update(task, description=f"fetched {file} ({done / 1e6:.0f} MB)"),
        )


@contextmanager
def download_bar(*, quiet: bool = False) -> Iterator[Fetched]:
    """A callback for downloads, shown as one bar for each file while inside."""
    from rich.progress import DownloadColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    with _bars(DownloadColumn(), TimeElapsedColumn(), quiet=quiet, transient=False) as bars:

        def tell(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        yield tell


@contextmanager
def count_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A callback for how many of how many are done, shown as a bar while inside."""
    with _counting(what, quiet=quiet) as (bars, task):
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def train_bar(*, quiet: bool) -> Iterator[Callable[[TrainProgress], None]]:
    """A callback for a student's training, shown as a bar with loss, score and time left while inside."""
    with _counting("loading", quiet=quiet) as (bars, task):
        staged = _Stages(bars, task)

        def tell(progress: TrainProgress) -> None:
            staged.enter(progress.stage)
            loss = "" if math.isnan(progress.loss) else f"loss {progress.loss:.3f}"
            score = "" if math.isnan(progress.score) else f"Dice {progress.score:.3f}"
            bars.update(
                task,
                description=progress.stage,
                completed=progress.done,
                total=progress.total,
                note="  ".join(filter(None, (loss, score))),
            )

        yield tell


@contextmanager
def finetune_bar(*, quiet: bool) -> Iterator[Callable[[FinetuneProgress], None]]:
    """A callback for a fine-tuning's progress, shown as one bar while inside."""
    names = {"reading": "reading images", "measuring": "measuring retrieval"}
    with _counting("loading the encoder", quiet=quiet) as (bars, task):
        staged = _Stages(bars, task)

        def tell(progress: FinetuneProgress) -> None:
            staged.enter(progress.stage)
            words = [names.get(progress.stage, "")]
            if progress.stage == "training":
                words = [f"epoch {progress.epoch}", f"loss {progress.loss:.3f}"]
            if math.isfinite(progress.top1):
                words.append(f"top-1 {progress.top1:.1%}")
            bars.update(task, description="  ".join(words), completed=progress.done, total=progress.total)

        yield tell


class _Stages:
    """Another stage counts other things: its time left must not be guessed from the last one's."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task, self._stage = bars, task, ""

    def enter(self, stage: str) -> None:
        """Begin anew where the stage is another."""
        if stage != self._stage:
            self._stage = stage
            self._bars.reset(self._task)


def _short(path: str, most: int = 40) -> str:
    return path if len(path) <= most else "…" + path[-most + 1 :]

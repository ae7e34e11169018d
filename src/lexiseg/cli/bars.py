"""Progress bars on standard error; nothing at all where it is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lexiseg.cli.terminal import shown_on, talk

if TYPE_CHECKING:
    from lexiseg.pipelines.runs import RunProgress

Fetched = Callable[[str, int, int], None]


@contextmanager
def run_bar(*, quiet: bool) -> Iterator[tuple[Callable[[RunProgress], None], Fetched]]:
    """Callbacks for a run's progress and for downloads, shown as bars with the time left while inside."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = talk()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}", style="red", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with bars, shown_on(console):
        task = bars.add_task("loading the models", total=None, failed="")

        def tell(progress: RunProgress) -> None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            bars.update(
                task,
                description=_short(progress.scan),
                completed=progress.done,
                total=progress.total,
                failed=failed,
            )

        yield (
            tell,
            lambda file, done, total: bars.update(task, description=f"fetched {file} ({done / 1e6:.0f} MB)"),
        )


@contextmanager
def download_bar(*, quiet: bool = False) -> Iterator[Fetched]:
    """A callback for downloads, shown as one bar for each file while inside."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    console = talk()
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}
    with bars, shown_on(console):

        def tell(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        yield tell


@contextmanager
def count_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A callback for how many of how many are done, shown as a bar while inside."""
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
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _short(path: str, most: int = 40) -> str:
    return path if len(path) <= most else "…" + path[-most + 1 :]

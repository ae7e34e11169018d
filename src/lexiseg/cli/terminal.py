"""What commands share at the terminal: consoles, bars, log lines, and errors as one line and an exit status."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from lexiseg.cli.ends import FAILED, INTERRUPTED, TERMINATED, USAGE, Terminated, Work
from lexiseg.errors import LexisegError, LexisegWarning, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

    from lexiseg.runs.segment import RunProgress
    from lexiseg.training.finetuning.finetune import FinetuneProgress
    from lexiseg.training.students.train import TrainProgress

__all__ = ["FAILED", "INTERRUPTED", "TERMINATED", "USAGE", "LogLevel", "answer", "live_console", "reporting",
           "set_up_logging", "shown_on", "talk"]  # fmt: skip

logger = logging.getLogger(__name__)


class LogLevel(StrEnum):
    """How much is told on standard error."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def talk() -> Console:
    """Standard error: progress, failures, closing words."""
    return _console(stderr=True)


def answer() -> Console:
    """Standard output: tables and lists; wide where nobody's terminal limits it."""
    console = _console(stderr=False)
    if not console.is_terminal:
        console.width = 200
    return console


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=stderr)


def set_up_logging(level: LogLevel, *, quiet: bool = False) -> None:
    """Send lexiseg's log to standard error, one plain line each; other libraries' only when debugging."""
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("lexiseg")
    ours.handlers[:] = [handler]
    ours.propagate = False
    ours.setLevel("ERROR" if quiet else level.value.upper())
    if level is not LogLevel.debug:
        _hush()


def _hush() -> None:
    """Keep the libraries' warnings and bars off the terminal: their words are not for the one who types."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger().setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", LexisegWarning)
    warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)


class _Handler(logging.Handler):
    """Writes through the console of the moment, so that a progress bar makes room for the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        from rich.text import Text

        style = "yellow" if record.levelno >= logging.WARNING else ""
        # A Text of its own: a style of the print would colour the progress bar below it too.
        live_console().print(Text(self.format(record), style=style))


_live: list[Console] = []


def live_console() -> Console:
    """The console that shows a progress bar now, else standard error."""
    return _live[-1] if _live else talk()


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """While inside, log lines go to this console."""
    _live.append(console)
    try:
        yield
    finally:
        _live.pop()


@contextmanager
def reporting(*, interrupted: str = "stopped") -> Iterator[None]:
    """Turn what goes wrong inside into one line on standard error and an exit status; never a traceback.

    Args:
        interrupted: what Ctrl-C says, and SIGTERM.
    """
    try:
        with Work():
            yield
    except LexisegError as error:
        _fail(str(error), USAGE if isinstance(error, UsageError) else FAILED)
    except Terminated:
        _fail(f"{interrupted} (SIGTERM)", TERMINATED)
    except KeyboardInterrupt:
        _fail(interrupted, INTERRUPTED)
    except BrokenPipeError:
        # Whoever read standard output has gone (`| head`); say nothing, also not while Python closes it.
        sys.stdout = None
        raise typer.Exit(0) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # the last boundary before the terminal
        from lexiseg.runs.batch import internal_error

        logger.debug("the command failed", exc_info=True)
        _fail(internal_error(error), FAILED)


def _fail(message: str, status: int) -> None:
    talk().print(" ".join(message.split()), style="bold red", markup=False)
    raise typer.Exit(status) from None


Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads; all cores.")]
AtOnce = Annotated[
    int | None,
    typer.Option("--batch", metavar="N", min=1, help="Views, crops, points or slices in a model at once."),
]
Products = Annotated[
    str, typer.Option("--precision", metavar="auto|float32|bfloat16", help="Number format of matrix products.")
]
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
            where = f"  slice {progress.slice}/{progress.slices}" if progress.slices else ""
            bars.update(
                task,
                description=_short(progress.scan) + where,
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

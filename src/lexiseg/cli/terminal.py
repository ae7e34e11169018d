"""What commands share at the terminal: consoles, log lines, and errors as one line and an exit status."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from lexiseg.errors import LexisegError, LexisegWarning, UsageError

if TYPE_CHECKING:
    from rich.console import Console


FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses besides 0: something failed, the call was wrong, Ctrl-C."""

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
        interrupted: what Ctrl-C says.
    """
    try:
        yield
    except LexisegError as error:
        _fail(str(error), USAGE if isinstance(error, UsageError) else FAILED)
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

"""How a command ends: its exit statuses, and what Ctrl-C and SIGTERM do.

The first module that the command imports. So it imports next to nothing: until its handlers are set, Ctrl-C prints
Python's traceback.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit statuses besides 0: something failed, the call was wrong, Ctrl-C, SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came. What cleans up after Ctrl-C cleans up after it too."""


class Work:
    """Inside there is something to clean up, so that signals raise KeyboardInterrupt and `Terminated`."""

    going = False

    def __enter__(self) -> None:
        Work.going = True

    def __exit__(self, *error: object) -> None:
        Work.going = False


def watch_signals() -> None:
    """From here on Ctrl-C and SIGTERM end the process with one line; inside `Work` they are exceptions."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if Work.going:
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
    # While modules are imported an exception would be somebody else's to catch, or to print.
    os.write(2, b"stopped\n")
    os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
